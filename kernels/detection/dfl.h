// SPDX-License-Identifier: Apache-2.0
// Boxes as four distances from an anchor point, and the distribution focal loss over them
// (Generalized Focal Loss, Li et al. 2020, equation 6).
//
// Distances are l t r b in units of the level's stride. With reg_max > 0 each is the expectation of
// a softmax over 0, 1, ..., reg_max.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/math/activation.h"

namespace sextant::kernels {

// box = x1 y1 x2 y2 around (px, py).
template <class T>
SEXTANT_HD void dist2bbox(T px, T py, const T* dist, T* box) {
  box[0] = px - dist[0];
  box[1] = py - dist[1];
  box[2] = px + dist[2];
  box[3] = py + dist[3];
}

// The distances of a box, each clipped to [0, reg_max - 0.01].
template <class T>
SEXTANT_HD void bbox2dist(T px, T py, const T* box, T reg_max, T* dist) {
  const T raw[4] = {px - box[0], py - box[1], box[2] - px, box[3] - py};
  const T high = reg_max - T(0.01);
  for (int i = 0; i < 4; ++i) dist[i] = raw[i] < T(0) ? T(0) : (raw[i] > high ? high : raw[i]);
}

// Softmax of `bins` logits and its expectation over 0 .. bins-1. prob may be null.
// CUDA: bins is at most 96 (T float) or 48 (double).
template <class T>  // float or double
struct Expectation {
  const float* logits = nullptr;  // [rows, bins]
  T* prob = nullptr;              // [rows, bins]
  T* mean = nullptr;              // [rows]
  int64_t rows = 0;
  int64_t bins = 0;
};

// loss[r] = mean over the four sides of  (i + 1 - t) ce(i) + (t - i) ce(i + 1),  i = floor(t) and
// ce(k) = -log softmax(logits)[k].
struct DflLoss {
  const float* logits = nullptr;       // [rows, 4, reg_max + 1]
  const double* target = nullptr;      // [rows, 4] in [0, reg_max)
  const double* grad_scale = nullptr;  // [rows]
  double* loss = nullptr;              // [rows]
  double* grad = nullptr;  // [rows, 4, reg_max + 1]: grad_scale[r] * d loss[r] / d logits; may be
                           // null
  int64_t rows = 0;
  int64_t reg_max = 16;
};

// log(sum of exp(z[k])) of a side's logits, and the expectation of their softmax, whose
// probabilities are exp(z[k] - log_sum).
struct SideSums {
  double log_sum;
  double mean;
};
SEXTANT_HD SideSums side_sums(const float* z, int64_t bins) {
  float top = z[0];
  for (int64_t k = 1; k < bins; ++k) top = z[k] > top ? z[k] : top;
  double sum = 0.0;
  double moment = 0.0;
  SEXTANT_OMP(omp simd reduction(+ : sum, moment))
  for (int64_t k = 0; k < bins; ++k) {
    const double e = std::exp(static_cast<double>(z[k]) - static_cast<double>(top));
    sum += e;
    moment += e * static_cast<double>(k);
  }
  return {static_cast<double>(top) + std::log(sum), moment / sum};
}

// The two bins that share a distance t, and their parts of it.
struct BinShares {
  int64_t left;
  double left_weight;
  double right_weight;  // of bin left + 1
};
SEXTANT_HD BinShares bin_shares(double t) {
  const auto left = static_cast<int64_t>(t);
  const double right_weight = t - static_cast<double>(left);
  return {left, 1.0 - right_weight, right_weight};
}
// The loss of a side.
SEXTANT_HD double cross_entropy(const float* z, double log_sum, const BinShares& shares) {
  return shares.left_weight * (log_sum - static_cast<double>(z[shares.left])) +
         shares.right_weight * (log_sum - static_cast<double>(z[shares.left + 1]));
}

// The loss of side `side` (4 r + i) and, unless grad is null, its gradient. One definition for the
// CPU and CUDA.
SEXTANT_HD double dfl_side(const DflLoss& p, int64_t side) {
  const int64_t bins = p.reg_max + 1;
  const float* z = p.logits + side * bins;
  const BinShares shares = bin_shares(p.target[side]);
  const double log_sum = side_sums(z, bins).log_sum;
  if (p.grad) {
    double* grad = p.grad + side * bins;
    const double scale = 0.25 * p.grad_scale[side / 4];
    for (int64_t k = 0; k < bins; ++k)
      grad[k] = scale * std::exp(static_cast<double>(z[k]) - log_sum);
    grad[shares.left] -= scale * shares.left_weight;
    grad[shares.left + 1] -= scale * shares.right_weight;
  }
  return cross_entropy(z, log_sum, shares);
}

}  // namespace sextant::kernels
