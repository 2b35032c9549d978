// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/constant.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/convert.h"
#include "core/half.h"

namespace sextant::deploy {
namespace {

using onnx::TensorProto;

constexpr int64_t kMaxElements = int64_t{1} << 30;

// Bytes of an element in raw_data; 0: an unsupported type.
int64_t bytes_of(int type) {
  switch (type) {
    case TensorProto::FLOAT:
    case TensorProto::INT32:
      return 4;
    case TensorProto::DOUBLE:
    case TensorProto::INT64:
      return 8;
    case TensorProto::FLOAT16:
    case TensorProto::BFLOAT16:
      return 2;
    case TensorProto::INT8:
    case TensorProto::UINT8:
    case TensorProto::BOOL:
      return 1;
    default:
      return 0;
  }
}

// The number of values in a tensor without raw_data.
int64_t listed(const TensorProto& t) {
  switch (t.data_type()) {
    case TensorProto::FLOAT:
      return t.float_data_size();
    case TensorProto::DOUBLE:
      return t.double_data_size();
    case TensorProto::INT64:
      return t.int64_data_size();
    default:
      return t.int32_data_size();
  }
}

template <class From, class To>
void read_raw(const std::string& raw, std::vector<To>& out) {
  for (size_t i = 0; i < out.size(); ++i) {
    From v;
    std::memcpy(&v, raw.data() + i * sizeof(From), sizeof(From));
    out[i] = static_cast<To>(v);
  }
}

template <class To>
void read_halves(const TensorProto& t, std::vector<To>& out) {
  Tensor half(Shape{std::ssize(out)},
              t.data_type() == TensorProto::FLOAT16 ? DType::kF16 : DType::kBF16);
  auto* bits = static_cast<uint16_t*>(half.raw());
  for (size_t i = 0; i < out.size(); ++i) {
    if (t.has_raw_data())
      std::memcpy(bits + i, t.raw_data().data() + 2 * i, 2);
    else
      bits[i] = static_cast<uint16_t>(t.int32_data(static_cast<int>(i)));
  }
  const Tensor full = to_f32(half);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<To>(full.f32()[i]);
}

}  // namespace

OnnxConstant::OnnxConstant(const TensorProto& tensor)
    : tensor_(&tensor), type_(tensor.data_type()) {
  check(!tensor.has_data_location() || tensor.data_location() != TensorProto::EXTERNAL,
        "its data is in another file, which cannot be read here");
  check(bytes_of(type_) > 0, "its element type {} is not supported", type_);
  check(!tensor.has_segment(), "it is a segment of a tensor, which is not supported");
  numel_ = 1;
  for (const int64_t d : tensor.dims()) {
    check(d >= 0 && d <= kMaxElements, "dimension {} is out of bounds", d);
    dims_.push_back(d);
    numel_ *= d;
    check(numel_ <= kMaxElements, "has too many values");
  }
  const int64_t there = tensor.has_raw_data() ? static_cast<int64_t>(tensor.raw_data().size())
                                              : listed(tensor) * bytes_of(type_);
  check(there == numel_ * bytes_of(type_), "has {} bytes of data, but its shape needs {}", there,
        numel_ * bytes_of(type_));
}

OnnxConstant OnnxConstant::of(std::vector<int64_t> values, std::vector<int64_t> dims, int type) {
  OnnxConstant c;
  c.numel_ = std::ssize(values);
  c.dims_ = std::move(dims);
  c.type_ = type;
  c.computed_ = std::move(values);
  return c;
}

OnnxConstant OnnxConstant::of(const std::vector<double>& values, std::vector<int64_t> dims,
                              int type) {
  OnnxConstant c;
  c.numel_ = std::ssize(values);
  c.dims_ = std::move(dims);
  c.type_ = type;
  if (c.integers() || type == TensorProto::BOOL) {
    for (const double v : values)  // a position beyond every size stays one
      c.computed_.push_back(v >= 0x1p62 ? INT64_MAX : static_cast<int64_t>(v));
    return c;
  }
  c.computed_floats_.assign(values.begin(), values.end());
  for (float& v : c.computed_floats_) {
    if (type == TensorProto::FLOAT16) v = to_float(to_half(v));
    if (type == TensorProto::BFLOAT16) v = to_float(to_bfloat16(v));
  }
  return c;
}

bool OnnxConstant::integers() const {
  return type_ == TensorProto::INT64 || type_ == TensorProto::INT32 || type_ == TensorProto::INT8 ||
         type_ == TensorProto::UINT8;
}

template <class To>
std::vector<To> OnnxConstant::values() const {
  std::vector<To> out(static_cast<size_t>(numel_));
  if (!tensor_) {
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = computed_floats_.empty() ? static_cast<To>(computed_[i])
                                        : static_cast<To>(computed_floats_[i]);
    return out;
  }
  const TensorProto& t = *tensor_;
  const auto list = [&](const auto& values) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<To>(values[static_cast<int>(i)]);
  };
  const bool raw = t.has_raw_data();
  switch (type_) {
    case TensorProto::FLOAT:
      raw ? read_raw<float>(t.raw_data(), out) : list(t.float_data());
      break;
    case TensorProto::DOUBLE:
      raw ? read_raw<double>(t.raw_data(), out) : list(t.double_data());
      break;
    case TensorProto::INT64:
      raw ? read_raw<int64_t>(t.raw_data(), out) : list(t.int64_data());
      break;
    case TensorProto::INT32:
      raw ? read_raw<int32_t>(t.raw_data(), out) : list(t.int32_data());
      break;
    case TensorProto::INT8:
      raw ? read_raw<int8_t>(t.raw_data(), out) : list(t.int32_data());
      break;
    case TensorProto::UINT8:
    case TensorProto::BOOL:
      raw ? read_raw<uint8_t>(t.raw_data(), out) : list(t.int32_data());
      break;
    default:
      read_halves(t, out);
  }
  return out;
}

std::vector<float> OnnxConstant::floats() const {
  std::vector<float> out = values<float>();
  for (const float v : out) check(std::isfinite(v), "holds values that are not finite");
  return out;
}

std::vector<int64_t> OnnxConstant::ints() const {
  check(integers(), "must hold integers");
  return values<int64_t>();
}

float OnnxConstant::item() const {
  check(numel_ == 1, "must have one value, not {}", numel_);
  return floats()[0];
}

float OnnxConstant::bound() const {
  check(numel_ == 1, "must have one value, not {}", numel_);
  const float v = values<float>()[0];
  check(!std::isnan(v), "holds NaN");
  return v;
}

std::vector<float> dequantized(const OnnxQuantized& q, bool& steps) {
  const std::vector<int64_t> integers = q.values.ints();
  const std::vector<int64_t>& dims = q.values.dims();
  int64_t inner = 1;  // elements from one index of the axis to the next
  for (size_t d = static_cast<size_t>(q.axis) + 1; d < dims.size(); ++d) inner *= dims[d];
  steps = true;
  std::vector<float> out(integers.size());
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t c =
        static_cast<size_t>(static_cast<int64_t>(i) / std::max<int64_t>(inner, 1)) % q.scale.size();
    const int64_t n = integers[i] - q.zero_point[c];
    steps = steps && n >= -127 && n <= 127;
    out[i] = static_cast<float>(n) * q.scale[c];
  }
  return out;
}

}  // namespace sextant::deploy
