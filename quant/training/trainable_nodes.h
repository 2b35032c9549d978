// SPDX-License-Identifier: Apache-2.0
// The differentiable function of each kind of node. Internal to quant/training.
#pragma once

#include <vector>

#include "deploy/graph/graph.h"
#include "layers/quantized.h"

namespace sextant::quant {

// The arguments of a node's function. A tensor with a range holds integers, any other holds real
// numbers.
struct TrainableNode {
  const deploy::Node& node;
  std::vector<Variable> inputs;
  std::vector<const QuantRange*> input_ranges;  // null: real
  const QuantRange* output_range = nullptr;
  // For nodes with a weight; weight_scale only for those that run in int8.
  Variable weight, bias, weight_scale;
  bool runs_in_int8 = false;

  // Input i as real numbers.
  Variable real(size_t i) const {
    return input_ranges[i] ? dequantize(inputs[i], *input_ranges[i]) : inputs[i];
  }
  // Converts a real result to the representation of the output.
  Variable finished(const Variable& y) const {
    return output_range ? quantize(y, *output_range) : y;
  }
};

// The node's output. Throws Error naming the node for a kind that cannot be trained.
Variable run_trainable(const TrainableNode& node);

}  // namespace sextant::quant
