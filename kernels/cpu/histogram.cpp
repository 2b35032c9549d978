// SPDX-License-Identifier: Apache-2.0
// Counting has to run at memory speed: bin numbers are computed in vectors, a block at a time, and
// added into four tables in turn (after a ReLU half the values fall into bin 0, and increments of
// one counter wait for each other).
#include "kernels/histogram.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

constexpr int64_t kGrain = 1 << 16;
constexpr int64_t kBlock = 1024;
constexpr int kTables = 4;

uint32_t max_bits(const float* x, int64_t n) {
  uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; ++i)
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFFu);
  return largest;
}

// Counts n values into `tables`, kTables tables of `bins` counters, one after another.
void count_block(const float* x, int64_t n, float bins, float range, uint32_t* tables) {
  std::array<int32_t, kBlock> bin;
  const float last = bins - 1.0f;
  const auto stride = static_cast<int64_t>(bins);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float place = std::fabs(x[i]) / range * bins;
    bin[static_cast<size_t>(i)] = static_cast<int32_t>(place < last ? place : last);
  }
  int64_t i = 0;
  for (; i + kTables <= n; i += kTables) {
    for (int t = 0; t < kTables; ++t) ++tables[t * stride + bin[static_cast<size_t>(i + t)]];
  }
  for (; i < n; ++i) ++tables[bin[static_cast<size_t>(i)]];
}

}  // namespace

void abs_max(const AbsMax& p) {
  std::mutex mutex;
  // A piece of one row of `inner` at a time.
  const int64_t pieces = (p.inner + kGrain - 1) / kGrain;
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, p.inner));
  parallel_for(p.outer * p.channels * pieces, grain, [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      const int64_t row = k / pieces, begin = k % pieces * kGrain;
      const uint32_t part =
          max_bits(p.x + row * p.inner + begin, std::min(kGrain, p.inner - begin));
      uint32_t& largest = p.bits[row % p.channels];
      const std::lock_guard lock(mutex);
      largest = std::max(largest, part);
    }
  });
}

void count_bins(const CountBins& p) {
  std::mutex mutex;
  parallel_for(p.n, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<uint32_t> tables(static_cast<size_t>(p.bins * kTables));
    // 32-bit counters cannot overflow within a stretch.
    constexpr int64_t kStretch = int64_t{1} << 31;
    for (int64_t from = begin; from < end; from += kStretch) {
      const int64_t to = std::min(end, from + kStretch);
      for (int64_t i = from; i < to; i += kBlock) {
        count_block(p.x + i, std::min(kBlock, to - i), static_cast<float>(p.bins), p.range,
                    tables.data());
      }
      const std::lock_guard lock(mutex);
      for (int64_t b = 0; b < p.bins; ++b) {
        for (int t = 0; t < kTables; ++t)
          p.counts[b] += tables[static_cast<size_t>(t * p.bins + b)];
      }
      std::fill(tables.begin(), tables.end(), 0u);
    }
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
