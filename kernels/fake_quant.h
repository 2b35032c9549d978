// SPDX-License-Identifier: Apache-2.0
// Fake quantization: q = clamp(round(x * k), low, high), y = q / k with k = bound / amax.
//
// As pytorch-quantization 2.2.1 (tensor_quant.py): bound is 2^(bits-1) - 1 when signed (range
// [-bound, bound]; narrow range) and 2^bits - 1 when unsigned (range [0, bound]); rounding half to
// even; the division at the end is the reference's, multiplying by 1 / k would differ in the last
// bit. amax at or below 2^-24 gives all zeros. NaN passes through. Straight-through gradient: dx =
// dy where |x| <= amax (0 <= x <= amax when unsigned), else 0.
//
// Layout: x is [outer, channels, inner] contiguous; amax has `channels` entries (1 for per-tensor,
// then outer = inner = 1 is allowed with channels = 1 and inner = n). f32.
#pragma once

#include <cstdint>

namespace sextant::kernels {

struct FakeQuantForward {
  const float* x = nullptr;
  const float* amax = nullptr;
  float* y = nullptr;
  int64_t outer = 1;
  int64_t channels = 1;
  int64_t inner = 1;
  int bits = 8;
  bool is_unsigned = false;
  bool narrow_range = true;  // signed only: [-(2^(bits-1) - 1), ...] rather than [-2^(bits-1), ...]
};

struct FakeQuantBackward {
  const float* x = nullptr;
  const float* amax = nullptr;
  const float* dy = nullptr;
  float* dx = nullptr;  // overwritten
  int64_t outer = 1;
  int64_t channels = 1;
  int64_t inner = 1;
  bool is_unsigned = false;
};

}  // namespace sextant::kernels
