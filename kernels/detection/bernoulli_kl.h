// SPDX-License-Identifier: Apache-2.0
// Distillation of class scores, each class for itself: the divergence of two Bernoulli
// distributions with its gradient. With t = sigmoid(teacher / T) and s = sigmoid(student / T) of
// the logits,
//
//   loss = factor * sum KL(Bernoulli(t) || Bernoulli(s)),   factor = T^2 / max(1, sum t)
//   KL = t log(t / s) + (1 - t) log((1 - t) / (1 - s)),   d KL / d student = (s - t) / T
//
// over all maps together (layers/distill.h). Computed in double; the order of the sums is fixed.
// Throws Error for more than kMaxScoreMaps maps.
#pragma once

#include <cstdint>

namespace sextant::kernels {

inline constexpr int kMaxScoreMaps = 8;

struct ScoreMap {
  const float* student = nullptr;  // [n]
  const float* teacher = nullptr;  // [n]
  float* grad = nullptr;           // [n]: (s - t) / T, still without `factor`; may be null
  int64_t n = 0;
};

struct BernoulliKl {
  ScoreMap map[kMaxScoreMaps];
  int maps = 0;
  double temperature = 1.0;
  float* loss = nullptr;    // [1], overwritten
  float* factor = nullptr;  // [1], overwritten
};

namespace cuda {
int64_t workspace_bytes(const BernoulliKl& p);
}

}  // namespace sextant::kernels
