// SPDX-License-Identifier: Apache-2.0
// Imports QuantizeLinear and DequantizeLinear: ranges and integer weights. Export writes them
// around other nodes (OnnxExporter::pair()).
#include <algorithm>
#include <cmath>

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
};

void Quantization::quantize() {
  const OnnxValue v = input(0);
  OnnxQuantized q;
  q.scale = constant_input(1).floats();
  const int type = has_input(2) ? constant_input(2).type() : int{onnx::TensorProto::UINT8};
  check(type == onnx::TensorProto::UINT8 || type == onnx::TensorProto::INT8,
        "only 8-bit integers are supported");
  const float low = type == onnx::TensorProto::UINT8 ? 0.0f : -128.0f;
  const float high = low + 255.0f;
  q.zero_point.assign(q.scale.size(), 0);
  if (has_input(2)) q.zero_point = constant_input(2).ints();
  check(q.zero_point.size() == q.scale.size() && !q.scale.empty(),
        "scale and zero point differ in size");
  for (const float s : q.scale) check(s > 0, "a scale is {}", s);
  if (v.is_constant()) {
    check(v.constant != nullptr, "its input is already quantized");
    q.axis = integer("axis", 1, -4, 3);
    if (q.axis < 0) q.axis += std::ssize(v.constant->dims());
    const std::vector<float> w = v.constant->floats();
    int64_t inner = 1;
    const auto& dims = v.constant->dims();
    for (size_t d = static_cast<size_t>(q.axis) + 1; d < dims.size(); ++d) inner *= dims[d];
    std::vector<int64_t> integers(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      const size_t c = static_cast<size_t>(static_cast<int64_t>(i) / std::max<int64_t>(inner, 1)) %
                       q.scale.size();
      const float r = std::nearbyint(w[i] / q.scale[c]) + static_cast<float>(q.zero_point[c]);
      integers[i] = static_cast<int64_t>(std::clamp(r, low, high));
    }
    OnnxValue constant;
    constant.constant = std::make_shared<OnnxConstant>(OnnxConstant::of(integers, dims));
    constant.constant_name = v.constant_name;
    return result(std::move(constant));
  }
  check(q.scale.size() == 1, "a scale per channel is only supported for constants");
  const int tensor = plain(v);
  const float zero = static_cast<float>(q.zero_point[0]);
  float amax = std::max(zero - low, high - zero) * q.scale[0];
  if (zero == low)
    amax = amax_of(q.scale[0], 255.0f);
  else if (zero == low + 128.0f)  // -128 saturates and is not part of the range
    amax = amax_of(q.scale[0], 127.0f);
  check(std::isfinite(amax) && amax < 1e30f, "a scale is {}", q.scale[0]);
  float& range = importer_.graph.tensors[static_cast<size_t>(tensor)].amax;
  range = std::max(range, amax);
  result(tensor, v.flat);
}

void Quantization::dequantize() {
  const OnnxValue v = input(0);
  if (!v.is_constant()) return result(v);  // its QuantizeLinear has set the range
  check(v.constant != nullptr, "its input is not quantized");
  OnnxQuantized q;
  q.values = *v.constant;
  q.scale = constant_input(1).floats();
  q.zero_point.assign(q.scale.size(), 0);
  if (has_input(2)) q.zero_point = constant_input(2).ints();
  for (const float s : q.scale) check(s > 0, "a scale is {}", s);
  const std::vector<int64_t>& dims = q.values.dims();
  const int64_t rank = std::ssize(dims);
  q.axis = q.scale.size() == 1 ? 0 : integer("axis", 1, -rank, rank - 1);
  if (q.axis < 0) q.axis += rank;
  check(!q.scale.empty() && q.zero_point.size() == q.scale.size() &&
            (q.scale.size() == 1 || dims[static_cast<size_t>(q.axis)] == std::ssize(q.scale)),
        "{} scales and {} zero points do not match its input", q.scale.size(), q.zero_point.size());
  q.values.ints();  // throws unless it holds integers
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
