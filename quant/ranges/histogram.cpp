// SPDX-License-Identifier: Apache-2.0
#include "quant/ranges/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/tensor.h"
#include "kernels/backend.h"

namespace sextant::quant {
namespace {

using kernels::kInfinityBits;

[[noreturn]] void fail_not_finite(std::span<const float> x, Device device) {
  const std::vector<float> values = to_host(x, device);
  const auto bad =
      std::count_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  fail("calibration: {} of {} values are not finite", bad, x.size());
}

// The largest |x| of each channel of [outer, channels, inner].
std::vector<float> channel_max(std::span<const float> x, int64_t outer, int64_t channels,
                               int64_t inner, Device device) {
  const Tensor bits = Tensor::zeros(Shape{channels}, DType::kI32, device);
  kernels::backend(device).abs_max(
      {x.data(), outer, channels, inner, reinterpret_cast<uint32_t*>(bits.data<int32_t>())});
  std::vector<float> largest;
  for (const int32_t b : bits.to(Device::kCpu).span<int32_t>()) {
    if (static_cast<uint32_t>(b) >= kInfinityBits) fail_not_finite(x, device);
    largest.push_back(std::bit_cast<float>(b));
  }
  return largest;
}

}  // namespace

int64_t Histogram::total() const {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

float max_abs(std::span<const float> x, Device device) {
  return channel_max(x, 1, 1, static_cast<int64_t>(x.size()), device).front();
}

void count_linear(std::span<const float> x, float range, std::span<int64_t> counts, Device device) {
  const auto bins = static_cast<int64_t>(counts.size()), n = static_cast<int64_t>(x.size());
  check(range > 0 && bins > 0 && bins < (int64_t{1} << 24),
        "histogram: range {} and {} bins; the range must be > 0, the bins fewer than 2^24", range,
        bins);
  kernels::backend(device).count_bins({x.data(), n, range, bins, counts.data()});
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
    // The guess is off by a few bins at most.
    while (bin > 0 && v < edges[static_cast<size_t>(bin)]) --bin;
    while (bin + 1 < bins && v >= edges[static_cast<size_t>(bin + 1)]) ++bin;
    ++counts[static_cast<size_t>(bin)];
  }
}

void update_channel_max(std::span<const float> x, int64_t outer, int64_t inner,
                        std::span<float> amax, Device device) {
  const auto channels = static_cast<int64_t>(amax.size());
  check(static_cast<int64_t>(x.size()) == outer * channels * inner,
        "calibration: {} values are not {} x {} channels x {}", x.size(), outer, channels, inner);
  const std::vector<float> largest = channel_max(x, outer, channels, inner, device);
  for (size_t c = 0; c < amax.size(); ++c) amax[c] = std::max(amax[c], largest[c]);
}

std::vector<float> to_host(std::span<const float> x, Device device) {
  if (device == Device::kCpu) return {x.begin(), x.end()};
  std::vector<float> here(x.size());
  accelerator().download(here.data(), x.data(), static_cast<int64_t>(x.size_bytes()),
                         compute_stream());
  return here;
}

}  // namespace sextant::quant
