// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/writer.h"

#include <bit>

namespace sextant::deploy {

using onnx::AttributeProto;
using onnx::TensorProto;

static_assert(std::endian::native == std::endian::little, "ONNX's raw_data is little-endian");

uint16_t half_bits(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = 0;
  if (magnitude >= 0x47800000u) {  // 65536 and above, infinity, NaN
    half = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: the spacing of [0.5, 1) is that of these
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

std::string OnnxWriter::node(const std::string& op, const std::string& name,
                             const std::vector<std::string>& inputs,
                             const std::vector<OnnxAttribute>& attributes,
                             const std::string& output) {
  const std::string out = output.empty() ? name : output;
  node(op, name, inputs, std::vector<std::string>{out}, attributes);
  return out;
}

void OnnxWriter::node(const std::string& op, const std::string& name,
                      const std::vector<std::string>& inputs,
                      const std::vector<std::string>& outputs,
                      const std::vector<OnnxAttribute>& attributes) {
  onnx::NodeProto& n = *graph_.add_node();
  n.set_op_type(op);
  n.set_name(name);
  for (const std::string& i : inputs) n.add_input(i);
  for (const std::string& o : outputs) n.add_output(o);
  for (const OnnxAttribute& a : attributes) {
    AttributeProto& p = *n.add_attribute();
    p.set_name(a.name);
    if (const auto* i = std::get_if<int64_t>(&a.value)) {
      p.set_type(AttributeProto::INT);
      p.set_i(*i);
    } else if (const auto* f = std::get_if<float>(&a.value)) {
      p.set_type(AttributeProto::FLOAT);
      p.set_f(*f);
    } else if (const auto* s = std::get_if<std::string>(&a.value)) {
      p.set_type(AttributeProto::STRING);
      p.set_s(*s);
    } else {
      p.set_type(AttributeProto::INTS);
      for (const int64_t v : std::get<std::vector<int64_t>>(a.value)) p.add_ints(v);
    }
  }
}

std::string OnnxWriter::constant(const std::string& name, int type,
                                 const std::vector<int64_t>& dims, const void* data, size_t bytes) {
  TensorProto& t = *graph_.add_initializer();
  t.set_name(name);
  t.set_data_type(type);
  for (const int64_t d : dims) t.add_dims(d);
  t.set_raw_data(data, bytes);
  return name;
}

std::string OnnxWriter::floats(const std::string& name, const std::vector<int64_t>& dims,
                               std::span<const float> values) {
  return constant(name, TensorProto::FLOAT, dims, values.data(), values.size_bytes());
}

std::string OnnxWriter::halves(const std::string& name, const std::vector<int64_t>& dims,
                               std::span<const float> values) {
  std::vector<uint16_t> bits;
  for (const float v : values) bits.push_back(half_bits(v));
  return constant(name, TensorProto::FLOAT16, dims, bits.data(), 2 * bits.size());
}

std::string OnnxWriter::scalar(const std::string& name, float value) {
  return floats(name, {}, {&value, 1});
}

std::string OnnxWriter::int64s(const std::string& name, const std::vector<int64_t>& values) {
  return constant(name, TensorProto::INT64, {static_cast<int64_t>(values.size())}, values.data(),
                  8 * values.size());
}

std::string OnnxWriter::int64(const std::string& name, int64_t value) {
  return constant(name, TensorProto::INT64, {}, &value, 8);
}

std::string OnnxWriter::int32s(const std::string& name, const std::vector<int32_t>& values) {
  return constant(name, TensorProto::INT32, {static_cast<int64_t>(values.size())}, values.data(),
                  4 * values.size());
}

std::string OnnxWriter::int8s(const std::string& name, const std::vector<int64_t>& dims,
                              const std::vector<int8_t>& values) {
  return constant(name, TensorProto::INT8, dims, values.data(), values.size());
}

std::string OnnxWriter::zero_point(const std::string& name, uint8_t value) {
  return constant(name, TensorProto::UINT8, {}, &value, 1);
}

void OnnxWriter::value(bool input, const std::string& name, int type,
                       const std::vector<OnnxDim>& dims) {
  onnx::ValueInfoProto& v = input ? *graph_.add_input() : *graph_.add_output();
  v.set_name(name);
  onnx::TypeProto::Tensor& t = *v.mutable_type()->mutable_tensor_type();
  t.set_elem_type(type);
  for (const OnnxDim& d : dims) {
    auto& dim = *t.mutable_shape()->add_dim();
    if (const auto* size = std::get_if<int64_t>(&d))
      dim.set_dim_value(*size);
    else
      dim.set_dim_param(std::get<std::string>(d));
  }
}

}  // namespace sextant::deploy
