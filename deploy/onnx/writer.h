// SPDX-License-Identifier: Apache-2.0
// Adds nodes and constants to an ONNX graph. Internal to deploy/onnx, whose headers are the only
// ones that expose protobuf.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/tensor.h"

namespace sextant::deploy {

inline constexpr int64_t kOnnxOpset = 13;
inline constexpr int64_t kOnnxIrVersion = 7;  // that of opset 13

struct OnnxAttribute {
  std::string name;
  std::variant<int64_t, float, std::string, std::vector<int64_t>> value;
};

// The size of a dimension, or its symbol.
using OnnxDim = std::variant<int64_t, std::string>;

// The bits of the nearest IEEE half, ties to even; infinity beyond 65504.
uint16_t half_bits(float f);

class OnnxWriter {
 public:
  explicit OnnxWriter(onnx::GraphProto& graph) : graph_(graph) {}

  // A node with one output. Returns the output's name: `output`, or the node's own.
  std::string node(const std::string& op, const std::string& name,
                   const std::vector<std::string>& inputs,
                   const std::vector<OnnxAttribute>& attributes = {},
                   const std::string& output = "");
  // The same with several outputs.
  void node(const std::string& op, const std::string& name, const std::vector<std::string>& inputs,
            const std::vector<std::string>& outputs, const std::vector<OnnxAttribute>& attributes);

  // Constants; each returns its name.
  std::string floats(const std::string& name, const std::vector<int64_t>& dims,
                     std::span<const float> values);
  std::string halves(const std::string& name, const std::vector<int64_t>& dims,
                     std::span<const float> values);
  std::string scalar(const std::string& name, float value);
  std::string int64s(const std::string& name, const std::vector<int64_t>& values);
  std::string int64(const std::string& name, int64_t value);  // a scalar
  std::string int32s(const std::string& name, const std::vector<int32_t>& values);
  std::string int8s(const std::string& name, const std::vector<int64_t>& dims,
                    const std::vector<int8_t>& values);
  std::string zero_point(const std::string& name, uint8_t value);  // a scalar

  // A graph input or output.
  void value(bool input, const std::string& name, int type, const std::vector<OnnxDim>& dims);

 private:
  std::string constant(const std::string& name, int type, const std::vector<int64_t>& dims,
                       const void* data, size_t bytes);
  onnx::GraphProto& graph_;
};

}  // namespace sextant::deploy
