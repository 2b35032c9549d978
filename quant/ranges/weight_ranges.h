// The step of each output channel's weights.
#pragma once

#include <string>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::quant {

struct WeightRangeOptions {
  // "max": largest |w| / 127. "mse": the range with the least squared error, among 61 from the
  // largest |w| down to 0.4 of it; of equal ones the largest.
  std::string range = "max";
  bool per_tensor = false;  // one scale for all channels of a weight: what naive PTQ does
};

// One scale per output channel of `weight` [O, ...]; 1 for a channel of zeros. Throws Error for
// another range.
std::vector<float> choose_weight_scales(const Tensor& weight, const WeightRangeOptions& options);

// Sets weight_scale of every conv and deconv.
void set_weight_scales(deploy::Graph& graph, const WeightRangeOptions& options);

}  // namespace sextant::quant
