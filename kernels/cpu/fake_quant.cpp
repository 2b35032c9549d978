// SPDX-License-Identifier: Apache-2.0
#include "kernels/fake_quant.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements
// Below this the reference calls the range zero (tensor_quant.py, epsilon of _tensor_quant).
constexpr float kTinyAmax = 0x1p-24f;

struct Levels {
  float low;
  float high;
};

Levels levels_of(const FakeQuantForward& p) {
  const auto bound = static_cast<float>((int64_t{1} << (p.is_unsigned ? p.bits : p.bits - 1)) - 1);
  if (p.is_unsigned) return {0.0f, bound};
  return {p.narrow_range ? -bound : -bound - 1.0f, bound};
}

// x to its level and back. Rounding is the current mode's, half to even; NaN stays NaN. The way
// back is a division, as in the reference: a product with amax / bound would differ in the last
// bit.
inline float quantize(float x, float scale, float back, Levels levels) {
  float q = std::nearbyint(x * scale);
  q = q < levels.low ? levels.low : q;
  q = q > levels.high ? levels.high : q;
  return q / back;
}

// Calls row(channel, begin, end) for the rows of [outer * channels, inner], or, where they have one
// element (channels last), last(begin, end) over outer; split so that a thread has enough to do.
template <class Row, class Last>
void for_each_row(int64_t outer, int64_t channels, int64_t inner, const Row& row,
                  const Last& last) {
  if (inner == 1 && channels > 1) {
    parallel_for(outer, std::max<int64_t>(1, kGrain / channels), last);
    return;
  }
  // A row may be the whole tensor (per-tensor scale) or 27 weights, so the split is by elements.
  const int64_t rows = outer * channels;
  parallel_for(rows * inner, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin / inner; r * inner < end; ++r) {
      row(r % channels, std::max(begin, r * inner), std::min(end, (r + 1) * inner));
    }
  });
}

}  // namespace

void fake_quant_forward(const FakeQuantForward& p) {
  const Levels levels = levels_of(p);
  const float bound = levels.high;
  const auto channels = static_cast<size_t>(p.channels);
  // With a range of zero every x * 0 is level 0, whose value is 0 / 1.
  std::vector<float> scales(channels);
  std::vector<float> backs(channels);
  for (size_t c = 0; c < channels; ++c) {
    const bool tiny = p.amax[c] <= kTinyAmax;
    scales[c] = tiny ? 0.0f : bound / p.amax[c];
    backs[c] = tiny ? 1.0f : scales[c];
  }
  for_each_row(
      p.outer, p.channels, p.inner,
      [&](int64_t channel, int64_t begin, int64_t end) {
        const float scale = scales[static_cast<size_t>(channel)];
        const float back = backs[static_cast<size_t>(channel)];
        const float* x = p.x;
        float* y = p.y;
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) y[i] = quantize(x[i], scale, back, levels);
      },
      [&](int64_t begin, int64_t end) {
        const float* scale = scales.data();
        const float* back = backs.data();
        for (int64_t o = begin; o < end; ++o) {
          const float* x = p.x + o * p.channels;
          float* y = p.y + o * p.channels;
#pragma omp simd
          for (int64_t c = 0; c < p.channels; ++c) {
            y[c] = quantize(x[c], scale[c], back[c], levels);
          }
        }
      });
}

void fake_quant_backward(const FakeQuantBackward& p) {
  // Unsigned: values below 0 are clipped to 0, so no gradient flows there.
  const float lowest = p.is_unsigned ? 0.0f : -1.0f;
  for_each_row(
      p.outer, p.channels, p.inner,
      [&](int64_t channel, int64_t begin, int64_t end) {
        const float high = p.amax[channel];
        const float low = lowest * high;
        const float* x = p.x;
        const float* dy = p.dy;
        float* dx = p.dx;
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) {
          dx[i] = x[i] >= low && x[i] <= high ? dy[i] : 0.0f;
        }
      },
      [&](int64_t begin, int64_t end) {
        const float* amax = p.amax;
        for (int64_t o = begin; o < end; ++o) {
          const float* x = p.x + o * p.channels;
          const float* dy = p.dy + o * p.channels;
          float* dx = p.dx + o * p.channels;
#pragma omp simd
          for (int64_t c = 0; c < p.channels; ++c) {
            dx[c] = x[c] >= lowest * amax[c] && x[c] <= amax[c] ? dy[c] : 0.0f;
          }
        }
      });
}

}  // namespace sextant::kernels::SEXTANT_CPU
