// SPDX-License-Identifier: Apache-2.0
#include "kernels/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

// Half of the values zero, as after a ReLU; the rest of both signs, up to `most`.
std::vector<float> activations(int64_t n, uint64_t seed, double most) {
  std::vector<float> out = random_values(n, seed, -most, most);
  for (size_t i = 0; i < out.size(); i += 2) out[i] = i % 4 == 0 ? 0.0f : -0.0f;
  return out;
}

void check_max(TestGpu& gpu, int64_t outer, int64_t channels, int64_t inner, int64_t offset) {
  CAPTURE(outer, channels, inner, offset);
  const int64_t n = outer * channels * inner;
  std::vector<float> x = activations(n, 3, 5.0);
  if (n > 40) x[40] = -7.0f;
  // What an earlier batch left: sometimes the larger.
  std::vector<uint32_t> before;
  for (int64_t c = 0; c < channels; ++c)
    before.push_back(c % 2 == 0 ? 0 : std::bit_cast<uint32_t>(4.9f));
  std::vector<uint32_t> ref = before, twin = before;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t& r = ref[static_cast<size_t>(i / inner % channels)];
    r = std::max(r, std::bit_cast<uint32_t>(std::fabs(x[static_cast<size_t>(i)])));
  }
  host_kernels().abs_max({x.data(), outer, channels, inner, twin.data()});
  CHECK(twin == ref);
  const DeviceArray xd(gpu, x, offset);
  const DeviceArrayOf<uint32_t> bits(gpu, before);
  start(gpu, cuda::abs_max, {xd.data(), outer, channels, inner, bits.data()});
  CHECK(bits.values() == ref);
  xd.require_unchanged();
}

void check_not_finite(TestGpu& gpu) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {kInfinity, -kInfinity, std::nanf(""), -std::nanf("")}) {
    std::vector<float> x = random_values(1000, 8, -1, 1);
    x[777] = bad;
    uint32_t twin = 0;
    host_kernels().abs_max({x.data(), 1, 1, 1000, &twin});
    CHECK(twin >= kInfinityBits);
    const DeviceArray xd(gpu, x);
    const DeviceArrayOf<uint32_t> bits(gpu, {0});
    start(gpu, cuda::abs_max, {xd.data(), 1, 1, 1000, bits.data()});
    CHECK(bits.values().front() == twin);
  }
}

void check_count(TestGpu& gpu, int64_t n, float range, int64_t bins, int64_t offset) {
  CAPTURE(n, range, bins, offset);
  std::vector<float> x = activations(n, 5, 1.25 * static_cast<double>(range));
  if (n > 1) x[1] = range;  // the edge; values beyond it count in the last bin too
  std::vector<int64_t> before;
  for (int64_t b = 0; b < bins; ++b) before.push_back(b % 3 == 0 ? int64_t{1} << 33 : b);
  std::vector<int64_t> ref = before, twin = before;
  for (const float v : x) {
    const float place = std::fabs(v) / range * static_cast<float>(bins);
    ++ref[static_cast<size_t>(std::min(static_cast<int64_t>(place), bins - 1))];
  }
  host_kernels().count_bins({x.data(), n, range, bins, twin.data()});
  CHECK(twin == ref);
  const DeviceArray xd(gpu, x, offset);
  const DeviceArrayOf<int64_t> counts(gpu, before);
  start(gpu, cuda::count_bins, {xd.data(), n, range, bins, counts.data()});
  CHECK(counts.values() == ref);
  xd.require_unchanged();
}

}  // namespace

// The largest |x| and counts of |x|.
KERNEL_CASE("histogram kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const int64_t offset : {0, 1}) {
      for (const int64_t n : {0, 1, 3, 4, 257, 20001}) check_max(gpu, 1, 1, n, offset);
      for (const int64_t channels : {3, 17, 68}) {
        check_max(gpu, 700, channels, 1, offset);
        check_max(gpu, 3, channels, 37, offset);
      }
      for (const int64_t n : {0, 1, 5, 1027, 40001})
        for (const int64_t bins : {1, 2, 400, 4096}) check_count(gpu, n, 3.0f, bins, offset);
      check_count(gpu, 1027, 0x1p-20f, 8193, offset);  // too many for shared memory
    }
    check_not_finite(gpu);
    CHECK(error_of([&] {
            start(gpu, cuda::count_bins, {nullptr, 1, 0.0f, 8, nullptr});
          }) == "count_bins: range 0 and 8 bins; the range must be > 0, the bins fewer than 2^24");
  }
}

}  // namespace sextant::test
