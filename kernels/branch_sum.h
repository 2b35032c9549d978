// SPDX-License-Identifier: Apache-2.0
// The sum of parallel branches, each scaled per channel, as computed by a block before its common
// batch-norm.
//
//   y[r, c] = sum_b scale_b[c] * x_b[r, c]
//
// [rows, channels] (NHWC flattened) of type `dtype`; scales and their gradient f32.
// CPU: f32 only. CUDA: F32, F16, BF16; sums are f32.
#pragma once

#include <array>
#include <cstdint>

#include "core/dtype.h"

namespace sextant::kernels {

inline constexpr int kMaxSummands = 4;

struct BranchSum {
  std::array<const void*, kMaxSummands> x{};
  std::array<const float*, kMaxSummands> scale{};  // [channels], or null for 1
  int branches = 1;
  void* y = nullptr;
  int64_t rows = 0;
  int64_t channels = 0;
  DType dtype = DType::kF32;
};

// out[c] = sum over rows of a[r, c] * b[r, c]: the gradient with respect to a scale. b null: ones.
// Summed in double, in chunks that depend on the number of rows alone.
struct ChannelDot {
  const void* a = nullptr;
  const void* b = nullptr;
  float* out = nullptr;
  int64_t rows = 0;
  int64_t channels = 0;
  DType dtype = DType::kF32;
};

namespace cuda {
int64_t workspace_bytes(const ChannelDot& p);
}

}  // namespace sextant::kernels
