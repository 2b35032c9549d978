// SPDX-License-Identifier: Apache-2.0
// Chooses the step of each output channel's weights.
#pragma once

#include <vector>

#include "core/enum_names.h"
#include "deploy/graph/graph.h"

namespace sextant::quant {

enum class WeightMethod {
  kMax,  // the largest |w|
  kMse,  // the least squared error of 61 ranges from the largest |w| down to 0.4 of it; the largest
         // of equal ones
};
constexpr auto enum_names(WeightMethod) {
  return make_enum_names<WeightMethod>("weight method",
                                       {{WeightMethod::kMax, "max"}, {WeightMethod::kMse, "mse"}});
}

struct WeightRangeOptions {
  WeightMethod method = WeightMethod::kMax;
  bool per_tensor = false;  // one scale for all channels of a weight: naive PTQ
};

// One scale per output channel of `weight` [O, ...], its range / 127; 1 for a channel of zeros.
std::vector<float> choose_weight_scales(const Tensor& weight, const WeightRangeOptions& options);

// Sets weight_scale of every conv and deconv.
void set_weight_scales(deploy::Graph& graph, const WeightRangeOptions& options);

}  // namespace sextant::quant
