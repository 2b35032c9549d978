// SPDX-License-Identifier: Apache-2.0
// The terms of kernels/detection/bernoulli_kl.h, one definition for the CPU and CUDA.
#pragma once

#include <cmath>

#include "kernels/detection/bernoulli_kl.h"
#include "kernels/math/activation.h"

namespace sextant::kernels::scores {

struct ScoreSums {
  double divergence = 0.0;
  double teacher = 0.0;
};

SEXTANT_HD double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
SEXTANT_HD double softplus(double x) {
  return (x > 0.0 ? x : 0.0) + std::log1p(std::exp(-std::abs(x)));
}

// Adds one value to the sums; returns its gradient. KL = (softplus(x) - t x) - (softplus(y) - t y)
// for the tempered logits x and y, which is finite everywhere.
SEXTANT_HD double add_score(double student, double teacher, double inverse, ScoreSums& sums) {
  const double x = student * inverse, y = teacher * inverse;
  const double t = sigmoid(y);
  sums.divergence += (softplus(x) - t * x) - (softplus(y) - t * y);
  sums.teacher += t;
  return (sigmoid(x) - t) * inverse;
}

SEXTANT_HD double factor_of(const BernoulliKl& p, const ScoreSums& sums) {
  return p.temperature * p.temperature / (sums.teacher > 1.0 ? sums.teacher : 1.0);
}

}  // namespace sextant::kernels::scores
