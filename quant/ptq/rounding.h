// SPDX-License-Identifier: Apache-2.0
// Learned rounding (AdaRound: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training
// Quantization").
//
// Rounding each weight to the nearest grid point is not the best choice for the sum of their
// products. Each weight w becomes s (floor(w / s) + h(v)) with the rectified sigmoid h(v) =
// clip(1.2 sigmoid(v) - 0.1, 0, 1) (equation 23), v is learned by Adam to minimise
//   sum_m K / e_m mean_r (act(z_rm) - act(t_rm))^2  +  lambda sum (1 - |2 h(v) - 1|^beta)
// (equations 24 and 25), z from the quantized inputs, t the exact results (asymmetric
// reconstruction). The error of output channel m is divided by the cost of rounding to nearest
// before the activation (e_m) and multiplied by its K weights, so that one lambda suits every
// layer; channels are independent, so the factor does not move the optimum. The regulariser starts
// after a warm-up; beta falls from 20 to 2 in whole steps.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "kernels/math/activation.h"

namespace sextant::quant {

struct RoundingConfig {
  int64_t iterations = 1000;  // Adam steps per layer
  int64_t batch = 256;        // rows per iteration
  int64_t rows = 2048;        // per layer, or twice the weights of a channel if that is more
  int64_t max_rows = 8192;
  double rate = 0.03;
  double regulariser = 10.0;  // lambda
  double warm_up = 0.2;       // fraction of the iterations, without the regulariser
};

// One convolution as a matrix product, z = inputs weight^T + bias.
struct RoundingProblem {
  Tensor inputs;             // f32 [R, K], quantized values
  Tensor targets;            // f32 [R, M], the exact result before the activation
  Tensor weight;             // f32 [M, K]
  std::vector<float> scale;  // [M]
  std::vector<float> bias;   // [M]
  Activation activation = Activation::kIdentity;
};

struct RoundingResult {
  Tensor weight;         // [M, K], integers times scale: rounding to nearest recovers the integers
  int64_t moved = 0;     // weights not rounded to their nearest integer
  double nearest = 0.0;  // squared error of act(z) on held-out rows, with rounding to nearest
  double learned = 0.0;  // the same with `weight`
};

// A fifth of the rows is held out, and a channel keeps the learned rounding only if it is better on
// these, so the result is never worse than rounding to nearest there. Throws Error for shapes that
// do not match or fewer than 10 rows.
RoundingResult learn_rounding(const RoundingProblem& problem, const RoundingConfig& config = {});

// The number of rows to sample for a layer with K weights per channel.
int64_t rows_for(const RoundingConfig& config, int64_t weights_per_channel);

}  // namespace sextant::quant
