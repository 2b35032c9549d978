// Takes the identity out of convolutions. A RepVGG or RepOptimizer block, once fused, has at the
// centre of channel o's kernel the weight of x_o itself, some ten times its other weights (the
// branch without a convolution), and a scale per output channel spends its 127 steps on that one.
// So
//   act(conv(x, w) + b)   becomes   act(conv(x, w - a I) + b + a x):
// the same function, with x as a residual, whose integers are multiplied in float.
#pragma once

#include <cstdint>

#include "deploy/graph/graph.h"

namespace sextant::quant {

struct SplitReport {
  int64_t layers = 0;
  double gain_db = 0;  // the mean over them of how much the noise of the rounded weights falls
};

// For every convolution that keeps the size and the channels (stride 1, groups 1, odd kernel,
// no residual yet), with a = argmin of sum_o max_i |w - a I|^2, the noise of weights rounded in
// steps of their channel's largest. Left as they are: where that gains less than 3 dB, and where x
// and the result cannot share a range, as residuals do (one signed, one not, or one held in float).
// `graph` must be fused.
deploy::Graph split_identity(const deploy::Graph& graph, SplitReport* report = nullptr);

}  // namespace sextant::quant
