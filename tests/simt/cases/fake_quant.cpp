// SPDX-License-Identifier: Apache-2.0
#include "kernels/fake_quant.h"

#include <cmath>
#include <limits>

#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

struct FakeQuantCase {
  int64_t outer, channels, inner;
};
// Per tensor; weights by output channel (with and without a multiple of four after it); channels
// last (likewise); in between, as a transposed convolution's.
const std::vector<FakeQuantCase> kFakeQuantCases = {
    {1, 1, 1},   {1, 1, 4},  {1, 1, 1025}, {1, 1, 9001}, {1, 17, 27},
    {1, 3, 36},  {1, 68, 9}, {1, 1, 33},   {33, 68, 1},  {1025, 3, 1},
    {33, 17, 1}, {2, 64, 1}, {3, 5, 7},    {4, 17, 16},  {129, 8, 12}};

struct FakeQuantMode {
  int bits;
  bool is_unsigned, narrow;
};
const std::vector<FakeQuantMode> kFakeQuantModes = {
    {8, false, true}, {8, false, false}, {8, true, true}, {4, false, true}, {4, true, true}};

struct FakeQuantReference {
  std::vector<double> y;
  std::vector<float> dx;
  std::vector<bool> tie;  // within rounding of a half: float32 may take the other level
};

FakeQuantReference fake_quant_reference(const FakeQuantCase& c, const FakeQuantMode& m,
                                        const std::vector<float>& x, const std::vector<float>& amax,
                                        const std::vector<float>& dy) {
  const double bound = std::pow(2.0, m.is_unsigned ? m.bits : m.bits - 1) - 1;
  const double low = m.is_unsigned ? 0 : (m.narrow ? -bound : -bound - 1);
  FakeQuantReference r;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto channel = static_cast<int64_t>(i) / c.inner % c.channels;
    const double a = amax[static_cast<size_t>(channel)];
    const bool zero = a <= 0x1p-24;
    const double level = zero ? 0 : x[i] * (bound / a);
    const double q = std::min(std::max(std::nearbyint(level), low), bound);
    r.y.push_back(zero ? 0 : q * a / bound);
    r.tie.push_back(std::abs(level - std::floor(level) - 0.5) < 1e-4);
    r.dx.push_back(x[i] <= a && x[i] >= (m.is_unsigned ? 0 : -a) ? dy[i] : 0.0f);
  }
  return r;
}

void check_fake_quant(TestGpu& gpu, const FakeQuantCase& c, const FakeQuantMode& m,
                      int64_t offset) {
  CAPTURE(c.outer, c.channels, c.inner, m.bits, m.is_unsigned, m.narrow, offset);
  const int64_t n = c.outer * c.channels * c.inner;
  const std::vector<float> x = random_values(n, 11, -2.5, 2.5), dy = random_values(n, 12, -1, 1);
  std::vector<float> amax = random_values(c.channels, 13, 0.5, 2);
  if (c.channels > 2) amax[2] = 0x1p-24f;  // counts as zero
  const FakeQuantReference ref = fake_quant_reference(c, m, x, amax, dy);
  std::vector<float> y_cpu = undefined(n), dx_cpu = undefined(n);
  host_kernels().fake_quant_forward({x.data(), amax.data(), y_cpu.data(), c.outer, c.channels,
                                     c.inner, m.bits, m.is_unsigned, m.narrow});
  host_kernels().fake_quant_backward({x.data(), amax.data(), dy.data(), dx_cpu.data(), c.outer,
                                      c.channels, c.inner, m.is_unsigned});

  const DeviceArray xd(gpu, x), ad(gpu, amax, offset), dyd(gpu, dy, offset),
      y(gpu, undefined(n), offset), dx(gpu, undefined(n));
  start(gpu, cuda::fake_quant_forward,
        {xd.data(), ad.data(), y.data(), c.outer, c.channels, c.inner, m.bits, m.is_unsigned,
         m.narrow});
  start(gpu, cuda::fake_quant_backward,
        {xd.data(), ad.data(), dyd.data(), dx.data(), c.outer, c.channels, c.inner, m.is_unsigned});
  std::vector<float> values = y.values();
  CHECK(same_bits(values, y_cpu));
  CHECK(same_bits(dx.values(), dx_cpu));
  CHECK(same_bits(dx.values(), ref.dx));
  std::vector<double> expected = ref.y;
  for (size_t i = 0; i < expected.size(); ++i)
    if (ref.tie[i]) expected[i] = values[i];
  CHECK(worst_error(values, expected) < 1e-6);
  xd.require_unchanged();
  ad.require_unchanged();
  dyd.require_unchanged();
}

}  // namespace

KERNEL_CASE("fake_quant kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const FakeQuantCase& c : kFakeQuantCases)
      for (const FakeQuantMode& m : kFakeQuantModes)
        for (const int64_t offset : {0, 1}) check_fake_quant(gpu, c, m, offset);
  }
}

// By hand: amax 127 makes a level 1, so that halves are exact.
KERNEL_CASE("fake_quant kernels: ties, range ends, NaN") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0.5f,    1.5f,    2.5f, -0.5f, -1.5f, 127.5f, 127.0f,
                                -127.0f, -128.0f, inf,  -inf,  nan,   300.0f, -0.0f};
  const std::vector<float> y = {0, 2, 2, 0, -2, 127, 127, -127, -127, 127, -127, nan, 127, 0};
  const std::vector<float> wide = {0, 2, 2, 0, -2, 127, 127, -127, -128, 127, -128, nan, 127, 0};
  const std::vector<float> mask = {1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1};
  const std::vector<float> ones(x.size(), 1.0f);
  const auto n = static_cast<int64_t>(x.size());
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const DeviceArray xd(gpu, x), amax(gpu, {127.0f}), dy(gpu, ones), narrow_out(gpu, undefined(n)),
        wide_out(gpu, undefined(n)), dx(gpu, undefined(n));
    start(gpu, cuda::fake_quant_forward,
          {xd.data(), amax.data(), narrow_out.data(), 1, 1, n, 8, false, true});
    start(gpu, cuda::fake_quant_forward,
          {xd.data(), amax.data(), wide_out.data(), 1, 1, n, 8, false, false});
    start(gpu, cuda::fake_quant_backward,
          {xd.data(), amax.data(), dy.data(), dx.data(), 1, 1, n, false});
    CHECK(worst_error(narrow_out.values(), y) == 0);
    CHECK(worst_error(wide_out.values(), wide) == 0);
    CHECK(worst_error(dx.values(), mask) == 0);
    // In place, and an empty tensor.
    start(gpu, cuda::fake_quant_forward,
          {xd.data(), amax.data(), xd.data(), 1, 1, n, 8, false, true});
    CHECK(worst_error(xd.values(), y) == 0);
    start(gpu, cuda::fake_quant_forward,
          {xd.data(), amax.data(), xd.data(), 0, 4, 4, 8, false, true});
  }
}

}  // namespace sextant::test
