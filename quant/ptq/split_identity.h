// SPDX-License-Identifier: Apache-2.0
// Takes the identity out of convolutions. In a fused RepVGG or RepOptimizer block the centre of
// channel o's kernel holds the weight of x_o itself (from the identity branch), about ten times as
// large as the other weights, and it determines the scale of the channel's 127 steps. So
//   act(conv(x, w) + b)   becomes   act(conv(x, w - a I) + b + a x):
// the same function, with x as a residual whose integers are multiplied in float.
#pragma once

#include <cstdint>

#include "deploy/graph/graph.h"

namespace sextant::quant {

struct SplitReport {
  int64_t layers = 0;
  double gain_db = 0;  // mean reduction of the noise of rounded weights over these layers
};

// Applies to every convolution that keeps the size and the channels (stride 1, groups 1, odd
// kernel, no residual yet), with a = argmin of sum_o max_i |w - a I|^2, the noise of weights
// rounded with a scale per channel. A convolution is left unchanged if the gain is below 3 dB, or
// if x and the result cannot share a range, as a residual requires (one is signed and the other is
// not, or one is in float). `graph` must be fused.
deploy::Graph split_identity(const deploy::Graph& graph, SplitReport* report = nullptr);

}  // namespace sextant::quant
