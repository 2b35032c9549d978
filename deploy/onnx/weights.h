// SPDX-License-Identifier: Apache-2.0
// The weights of a node as ONNX stores them. Internal to deploy/onnx.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::deploy {

// f32 in ONNX's layout: conv OIHW, deconv IOHW; and its dims.
Tensor onnx_weight(const Node& node);
std::vector<int64_t> onnx_weight_dims(const Node& node);
// f32 in ONNX's layout: a quantized node's integers times their scales.
Tensor onnx_weight_levels(const Node& node);

// The integers of a quantized node: weights in ONNX's layout, -127..127, one scale per output
// channel, and biases as multiples of input scale * weight scale, as integer kernels add them. A
// channel whose bias would not fit into 32 bits, because its weights are close to 0, gets a larger
// scale.
struct IntegerWeight {
  std::vector<int8_t> weight;
  std::vector<float> scale;
  std::vector<int32_t> bias;  // empty if the node has no bias
  std::vector<float> bias_scale;
};
IntegerWeight integer_weight(const Node& node, float input_scale);

}  // namespace sextant::deploy
