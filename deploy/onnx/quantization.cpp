// SPDX-License-Identifier: Apache-2.0
// Imports QuantizeLinear and DequantizeLinear: ranges and integer weights. Export writes them
// around other nodes (OnnxExporter::pair()).
#include <algorithm>
#include <cmath>
#include <limits>

#include "deploy/onnx/importer.h"
#include "deploy/onnx/nodes.h"

namespace sextant::deploy {
namespace {

// The range for which TensorInfo::scale() gives exactly `scale`.
float amax_of(float scale, float steps) {
  const float near = scale * steps;
  float candidate = std::nextafter(std::nextafter(near, 0.0f), 0.0f);
  for (int i = 0; i < 5; ++i, candidate = std::nextafter(candidate, INFINITY))
    if (candidate / steps == scale) return candidate;
  return near;
}

class Quantization : public OnnxOperator {
 public:
  using OnnxOperator::OnnxOperator;
  void quantize();
  void dequantize();

 private:
  int read_steps(OnnxQuantized& q) const;
  int64_t axis_of(const std::vector<int64_t>& dims, const OnnxQuantized& q) const;
  bool holds_as_before(const OnnxValue& v, float scale, bool symmetric) const;
};

// scale, zero_point and the integers' type, from inputs 1 and 2 and output_dtype.
int Quantization::read_steps(OnnxQuantized& q) const {
  check(integer("block_size", 0, 0, int64_t{1} << 30) == 0, "block_size is not supported");
  ignore({"saturate"});  // of 8-bit floats
  q.scale = constant_input(1).floats();
  for (const float s : q.scale) check(s > 0, "a scale is {}", s);
  q.zero_point.assign(q.scale.size(), 0);
  int type = 0;
  if (has_input(2)) {
    type = constant_input(2).type();
    q.zero_point = constant_input(2).ints();
  }
  check(!q.scale.empty() && q.zero_point.size() == q.scale.size(),
        "{} scales and {} zero points do not match", q.scale.size(), q.zero_point.size());
  return type;
}

// The axis of a scale per index.
int64_t Quantization::axis_of(const std::vector<int64_t>& dims, const OnnxQuantized& q) const {
  const int64_t rank = std::ssize(dims);
  if (q.scale.size() == 1) {
    ignore({"axis"});
    return 0;
  }
  int64_t axis = integer("axis", 1, -rank, rank - 1);
  if (axis < 0) axis += rank;
  check(dims[static_cast<size_t>(axis)] == std::ssize(q.scale),
        "{} scales do not match axis {} of its input", q.scale.size(), axis);
  return axis;
}

// Whether the pair has the range of a factor times a tensor whose range is known, and so clamps
// nothing.
bool Quantization::holds_as_before(const OnnxValue& v, float scale, bool symmetric) const {
  if (v.is_constant() || v.factor == 1.0f || v.steps || !symmetric ||
      v.pending != OnnxValue::Pending::kNone)
    return false;
  const float amax = importer_.graph.tensors[static_cast<size_t>(v.tensor)].amax;
  return amax > 0.0f &&
         std::abs(std::abs(v.factor) * amax - 127.0f * scale) <= 1e-6f * 127.0f * scale;
}

void Quantization::quantize() {
  const OnnxValue v = input(0);
  OnnxQuantized q;
  int type = read_steps(q);
  if (const int64_t given = integer("output_dtype", 0, 0, 100); given != 0) {
    check(type == 0 || type == given, "output_dtype is not the type of its zero point");
    type = static_cast<int>(given);
  }
  if (type == 0) type = onnx::TensorProto::UINT8;
  check(integer("precision", 0, 0, 100) == 0, "precision is not supported");
  check(type == onnx::TensorProto::UINT8 || type == onnx::TensorProto::INT8,
        "only 8-bit integers are supported");
  const float low = type == onnx::TensorProto::UINT8 ? 0.0f : -128.0f;
  const float high = low + 255.0f;
  if (v.is_constant()) {
    check(v.constant != nullptr && !v.constant->integers(), "its input is already quantized");
    const std::vector<int64_t>& dims = v.constant->dims();
    q.axis = axis_of(dims, q);
    const std::vector<float> w = v.constant->floats();
    int64_t inner = 1;
    for (size_t d = static_cast<size_t>(q.axis) + 1; d < dims.size(); ++d) inner *= dims[d];
    std::vector<int64_t> integers(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      const size_t c = static_cast<size_t>(static_cast<int64_t>(i) / std::max<int64_t>(inner, 1)) %
                       q.scale.size();
      const float r = std::nearbyint(w[i] / q.scale[c]) + static_cast<float>(q.zero_point[c]);
      integers[i] = static_cast<int64_t>(std::clamp(r, low, high));
    }
    OnnxValue constant;
    constant.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(integers, dims, type));
    constant.constant_name = v.constant_name;
    return result(std::move(constant));
  }
  ignore({"axis"});
  check(q.scale.size() == 1, "a scale per channel is only supported for constants");
  const float zero = static_cast<float>(q.zero_point[0]);
  check(zero >= low && zero <= high, "its zero point is {}", zero);
  if (holds_as_before(v, q.scale[0], zero == low + 128.0f)) {
    OnnxValue same = v;
    same.steps = {q.scale[0], q.zero_point[0]};
    return result(std::move(same));
  }
  OnnxValue held;
  held.tensor = plain(v);
  held.flat = v.flat;
  held.steps = {q.scale[0], q.zero_point[0]};
  // The pair is a clamp. Runtimes leave a ReLU out where the zero point is the lowest integer.
  const float infinity = std::numeric_limits<float>::infinity();
  if (zero == low && !importer_.never_negative(held.tensor))
    held.tensor = activate(held.tensor, Activation::kReLU);
  else if (zero == high)
    held.tensor = importer_.clip(held.tensor, -infinity, 0.0f);
  float amax = std::max(zero - low, high - zero) * q.scale[0];
  if (zero == low)
    amax = amax_of(q.scale[0], 255.0f);
  else if (zero == low + 128.0f)  // -128 saturates and is not part of the range
    amax = amax_of(q.scale[0], 127.0f);
  check(std::isfinite(amax) && amax < 1e30f, "a scale is {}", q.scale[0]);
  TensorInfo& info = importer_.graph.tensors[static_cast<size_t>(held.tensor)];
  info.is_unsigned = zero == low && (info.is_unsigned || !info.has_range());
  info.amax = std::max(info.amax, amax);
  result(std::move(held));
}

void Quantization::dequantize() {
  OnnxValue v = input(0);
  OnnxQuantized q;
  const int type = read_steps(q);
  const int64_t to = integer("output_dtype", 0, 0, 100);
  check(to == 0 || to == onnx::TensorProto::FLOAT || to == onnx::TensorProto::FLOAT16,
        "output_dtype {} is not supported", to);
  if (!v.is_constant()) {  // its QuantizeLinear has set the range
    ignore({"axis"});
    check(v.steps.has_value(), "its input is not quantized");
    check(q.scale.size() == 1 && *v.steps == OnnxValue::Steps{q.scale[0], q.zero_point[0]},
          "its scale and zero point are not those of the QuantizeLinear before it");
    v.steps.reset();
    return result(std::move(v));
  }
  check(v.constant != nullptr, "its input is not quantized");
  q.values = *v.constant;
  q.values.ints();  // throws unless it holds integers
  check(type == 0 || type == q.values.type(), "its zero point is of another type than its input");
  q.axis = axis_of(q.values.dims(), q);
  OnnxValue weight;
  weight.weight = std::make_shared<OnnxQuantized>(std::move(q));
  weight.constant_name = v.constant_name;
  result(std::move(weight));
}

constexpr OnnxImport kImports[] = {imports<&Quantization::dequantize>("DequantizeLinear"),
                                   imports<&Quantization::quantize>("QuantizeLinear")};

}  // namespace

OnnxNodes quantization_nodes() { return {kImports, {}}; }

}  // namespace sextant::deploy
