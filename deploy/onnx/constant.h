// SPDX-License-Identifier: Apache-2.0
// Constants of an ONNX file, checked before they are read. Internal to deploy/onnx.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace sextant::deploy {

class OnnxConstant {
 public:
  OnnxConstant() = default;
  // Refers to `tensor`, which must outlive it. Throws Error for an unsupported type, dims out of
  // bounds, and data in another file or of a length that does not match the dims.
  explicit OnnxConstant(const onnx::TensorProto& tensor);
  // A constant that was computed, of an ONNX type; f16 values are rounded to it.
  static OnnxConstant of(std::vector<int64_t> values, std::vector<int64_t> dims,
                         int type = onnx::TensorProto::INT64);
  static OnnxConstant of(const std::vector<double>& values, std::vector<int64_t> dims, int type);

  const std::vector<int64_t>& dims() const { return dims_; }
  int64_t numel() const { return numel_; }
  int type() const { return type_; }  // onnx::TensorProto::DataType
  bool integers() const;

  // Values as floats, whatever the type. Throws for those that are not finite.
  std::vector<float> floats() const;
  // For integer types only.
  std::vector<int64_t> ints() const;
  // The value of a constant that has one element.
  float item() const;
  // The same where infinity has a meaning.
  float bound() const;

 private:
  template <class To>
  std::vector<To> values() const;

  const onnx::TensorProto* tensor_ = nullptr;
  std::vector<int64_t> computed_;  // without a tensor: of an integer type or bool
  std::vector<float> computed_floats_;
  std::vector<int64_t> dims_;
  int64_t numel_ = 0;
  int type_ = 0;
};

// A constant behind a DequantizeLinear.
struct OnnxQuantized {
  OnnxConstant values;
  std::vector<float> scale;         // one, or one per index of `axis`
  std::vector<int64_t> zero_point;  // as many
  int64_t axis = 0;
};

// Dequantized values in the order of the file. `steps`: whether all are within -127..127 steps of
// the zero point, so that scale and integers can be kept.
std::vector<float> dequantized(const OnnxQuantized& q, bool& steps);

}  // namespace sextant::deploy
