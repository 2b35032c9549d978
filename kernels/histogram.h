// SPDX-License-Identifier: Apache-2.0
// Statistics of an f32 tensor for calibration: the largest |x|, by channel, and histograms of |x|.
//
// Results are integers and do not depend on threads or on the order of the values.
#pragma once

#include <cstdint>

namespace sextant::kernels {

// The bits of |x|: an integer that orders like the value, with infinity and then NaN on top. So one
// maximum finds the range and sees what is not finite.
inline constexpr uint32_t kInfinityBits = 0x7F800000u;

// bits[c] = max(bits[c], bits of |x| in channel c), x of [outer, channels, inner].
struct AbsMax {
  const float* x = nullptr;
  int64_t outer = 1;
  int64_t channels = 1;
  int64_t inner = 0;
  uint32_t* bits = nullptr;
};

// Adds every |x| to the bin min(trunc(|x| / range * bins), bins - 1) of `counts`, in f32, as
// torch.histc(x.abs(), bins, 0, range) of PyTorch 1.13 does. range > 0; bins < 2^24; x finite.
struct CountBins {
  const float* x = nullptr;
  int64_t n = 0;
  float range = 0.0f;
  int64_t bins = 0;
  int64_t* counts = nullptr;
};

}  // namespace sextant::kernels
