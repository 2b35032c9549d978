#include "quant/histogram.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <mutex>
#include <numeric>

#include "core/error.h"
#include "core/parallel.h"

namespace sextant::quant {
namespace {

constexpr int64_t kGrain = 1 << 16;
constexpr int64_t kBlock = 1024;
constexpr int kTables = 4;
constexpr uint32_t kInfinity = 0x7F800000u;

// The bits of |x|, which order like the values, with infinity and then NaN on top: so one integer
// maximum finds the range and sees what is not finite.
inline uint32_t abs_bits(float x) { return std::bit_cast<uint32_t>(x) & 0x7FFFFFFFu; }

uint32_t max_bits(const float* x, int64_t n) {
  uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, abs_bits(x[i]));
  return largest;
}

[[noreturn]] void fail_not_finite(std::span<const float> x) {
  const auto bad =
      std::count_if(x.begin(), x.end(), [](float v) { return abs_bits(v) >= kInfinity; });
  fail("calibration: {} of {} values are not finite", bad, x.size());
}

// Counts x[begin, end) into `tables`, kTables tables of `bins` counters, one after another.
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

int64_t Histogram::total() const {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

float max_abs(std::span<const float> x) {
  std::mutex mutex;
  uint32_t largest = 0;
  parallel_for(static_cast<int64_t>(x.size()), kGrain, [&](int64_t begin, int64_t end) {
    const uint32_t part = max_bits(x.data() + begin, end - begin);
    const std::lock_guard lock(mutex);
    largest = std::max(largest, part);
  });
  if (largest >= kInfinity) fail_not_finite(x);
  return std::bit_cast<float>(largest);
}

void count_linear(std::span<const float> x, float range, std::span<int64_t> counts) {
  const auto bins = static_cast<int64_t>(counts.size());
  check(range > 0 && bins > 0 && bins < (int64_t{1} << 24),
        "histogram: range {} and {} bins; the range must be > 0, the bins fewer than 2^24", range,
        bins);
  std::mutex mutex;
  parallel_for(static_cast<int64_t>(x.size()), kGrain, [&](int64_t begin, int64_t end) {
    std::vector<uint32_t> tables(static_cast<size_t>(bins * kTables));
    // 32-bit counters cannot overflow within a stretch.
    constexpr int64_t kStretch = int64_t{1} << 31;
    for (int64_t from = begin; from < end; from += kStretch) {
      const int64_t to = std::min(end, from + kStretch);
      for (int64_t i = from; i < to; i += kBlock) {
        count_block(x.data() + i, std::min(kBlock, to - i), static_cast<float>(bins), range,
                    tables.data());
      }
      const std::lock_guard lock(mutex);
      for (int64_t b = 0; b < bins; ++b) {
        for (int t = 0; t < kTables; ++t) {
          counts[static_cast<size_t>(b)] += tables[static_cast<size_t>(t * bins + b)];
        }
      }
      std::fill(tables.begin(), tables.end(), 0u);
    }
  });
}

void count_by_edges(std::span<const float> x, std::span<const double> edges,
                    std::span<int64_t> counts) {
  check(edges.size() == counts.size() + 1 && !counts.empty(), "histogram: {} edges for {} bins",
        edges.size(), counts.size());
  const double first = edges.front();
  const double last = edges.back();
  const auto bins = static_cast<int64_t>(counts.size());
  const double per_bin = static_cast<double>(bins) / (last - first);
  for (const float value : x) {
    const double v = std::fabs(value);
    if (!(v >= first && v <= last)) continue;
    auto bin = std::min(static_cast<int64_t>((v - first) * per_bin), bins - 1);
    // The guess is at most a few bins off.
    while (bin > 0 && v < edges[static_cast<size_t>(bin)]) --bin;
    while (bin + 1 < bins && v >= edges[static_cast<size_t>(bin + 1)]) ++bin;
    ++counts[static_cast<size_t>(bin)];
  }
}

void update_channel_max(std::span<const float> x, int64_t outer, int64_t inner,
                        std::span<float> amax) {
  const auto channels = static_cast<int64_t>(amax.size());
  check(static_cast<int64_t>(x.size()) == outer * channels * inner,
        "calibration: {} values are not {} x {} channels x {}", x.size(), outer, channels, inner);
  for (int64_t row = 0; row < outer * channels; ++row) {
    const uint32_t bits = max_bits(x.data() + row * inner, inner);
    if (bits >= kInfinity) fail_not_finite(x);
    float& largest = amax[static_cast<size_t>(row % channels)];
    largest = std::max(largest, std::bit_cast<float>(bits));
  }
}

}  // namespace sextant::quant
