// SPDX-License-Identifier: Apache-2.0
#include "quant/ptq/bias_correction.h"

#include <cmath>

#include "core/error.h"

namespace sextant::quant {

double correct_bias(deploy::Node& node, const LayerSample& exact, const LayerSample& quantized) {
  const size_t channels = exact.mean.size();
  check(channels == quantized.mean.size() && static_cast<int64_t>(channels) == node.weight.dim(0),
        "bias correction: node '{}' has {} channels, the samples {} and {}", node.name,
        node.weight.dim(0), channels, quantized.mean.size());
  node.bias =
      node.bias.defined() ? node.bias.clone() : Tensor::zeros({static_cast<int64_t>(channels)});
  double squares = 0.0;
  for (size_t c = 0; c < channels; ++c) {
    const double shift = quantized.mean[c] - exact.mean[c];
    node.bias.f32()[c] = static_cast<float>(node.bias.f32()[c] - shift);
    squares += shift * shift;
  }
  return std::sqrt(squares / static_cast<double>(channels));
}

}  // namespace sextant::quant
