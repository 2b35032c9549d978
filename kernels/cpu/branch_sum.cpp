// SPDX-License-Identifier: Apache-2.0
#include "kernels/branch_sum.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/f32_only.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

// How the first summand is stored, and how the others are added.
template <bool kFirst>
void take(const float* x, const float* scale, float* y, int64_t n) {
  if (scale) {
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) y[c] = (kFirst ? 0.0f : y[c]) + scale[c] * x[c];
  } else {
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) y[c] = (kFirst ? 0.0f : y[c]) + x[c];
  }
}

}  // namespace

void branch_sum(const BranchSum& p) {
  check_f32("branch_sum", p.dtype);
  const int64_t grain = std::max<int64_t>(1, (1 << 14) / p.channels);
  parallel_for(p.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t at = r * p.channels;
      take<true>(f32(p.x[0]) + at, p.scale[0], f32(p.y) + at, p.channels);
      for (size_t b = 1; b < static_cast<size_t>(p.branches); ++b)
        take<false>(f32(p.x[b]) + at, p.scale[b], f32(p.y) + at, p.channels);
    }
  });
}

void channel_dot(const ChannelDot& p) {
  check_f32("channel_dot", p.dtype);
  const int64_t chunks = std::clamp<int64_t>(p.rows / 512, 1, 256);
  std::vector<double> part(static_cast<size_t>(chunks * p.channels), 0.0);
  parallel_for(chunks, 1, [&](int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k) {
      double* sums = part.data() + k * p.channels;
      for (int64_t r = p.rows * k / chunks; r < p.rows * (k + 1) / chunks; ++r) {
        const float* a = f32(p.a) + r * p.channels;
        if (!p.b) {
          for (int64_t c = 0; c < p.channels; ++c) sums[c] += a[c];
          continue;
        }
        const float* b = f32(p.b) + r * p.channels;
#pragma omp simd
        for (int64_t c = 0; c < p.channels; ++c) sums[c] += static_cast<double>(a[c]) * b[c];
      }
    }
  });
  for (int64_t c = 0; c < p.channels; ++c) {
    double sum = 0;
    for (int64_t k = 0; k < chunks; ++k) sum += part[static_cast<size_t>(k * p.channels + c)];
    p.out[c] = static_cast<float>(sum);
  }
}

}  // namespace sextant::kernels::SEXTANT_CPU
