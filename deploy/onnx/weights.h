// Weights of a node as ONNX holds them. Internal to deploy/onnx.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::deploy {

// f32 in ONNX's layout: conv OIHW, deconv IOHW; and its dims.
Tensor onnx_weight(const Node& node);
std::vector<int64_t> onnx_weight_dims(const Node& node);

// The integers of a quantized node: weights in ONNX's layout, -127..127, one scale per output
// channel, and biases as multiples of input scale * weight scale, as integer kernels add them. A
// channel whose bias would not fit into 32 bits that way, because its weights are next to nothing,
// gets a larger scale.
struct IntegerWeight {
  std::vector<int8_t> weight;
  std::vector<float> scale;
  std::vector<int32_t> bias;  // empty without a bias
  std::vector<float> bias_scale;
};
IntegerWeight integer_weight(const Node& node, float input_scale);

// The text with line breaks and what is not printable ASCII replaced, cut to 200 characters: names
// and messages from files end up in one-line errors and in JSON.
std::string one_line(const std::string& text);

}  // namespace sextant::deploy
