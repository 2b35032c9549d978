// SPDX-License-Identifier: Apache-2.0
// The final step of a loss: combining its parts, and multiplying gradients by the incoming
// gradient.
#pragma once

#include <array>
#include <cstdint>

namespace sextant::kernels {

inline constexpr int kMaxLossTerms = 64;
inline constexpr int kMaxLossParts = 8;

// Adds factor * (sums[first] + ... + sums[first + count - 1]) / *divisor to a part.
struct LossTerm {
  int part = 0;
  int first = 0;
  int count = 1;
  double factor = 1.0;
  const double* divisor = nullptr;  // null: 1
};

struct TotalLoss {
  const double* sums = nullptr;
  LossTerm term[kMaxLossTerms];
  int terms = 0;
  int parts = 0;
  double* part = nullptr;  // [parts]: the terms in order; overwritten
  float* loss = nullptr;   // [1]: the sum of the parts
};

inline constexpr int kMaxScaled = 48;

// x[i][k] *= *factor for k < n[i]; a factor of 1 reads no x.
struct ScaleGradients {
  float* x[kMaxScaled] = {};
  int64_t n[kMaxScaled] = {};
  int count = 0;
  const float* factor = nullptr;
};

}  // namespace sextant::kernels
