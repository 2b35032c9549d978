#include <cmath>

#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/conv_int8.h"
#include "support/conv_sums.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::kernels;
using test::sums_of;

namespace {

std::vector<int> integers(int64_t n, int low, int high, uint64_t seed) {
  Rng rng(seed);
  std::vector<int> v(static_cast<size_t>(n));
  for (int& i : v) i = low + static_cast<int>(rng.below(static_cast<uint64_t>(high - low + 1)));
  return v;
}

template <class X>
std::vector<int64_t> our_sums(const ConvShape& s, const std::vector<int>& x,
                              const std::vector<int>& w) {
  const std::vector<X> bytes(x.begin(), x.end());
  const std::vector<int8_t> weights(w.begin(), w.end());
  std::vector<int32_t> y(static_cast<size_t>(s.y_numel()), -1);
  cpu::ConvInt8 conv(s, weights.data());
  conv({.shape = s,
        .x = bytes.data(),
        .y = y.data(),
        .x_type = DTypeOf<X>::value,
        .y_type = DType::kI32});
  return {y.begin(), y.end()};
}

}  // namespace

TEST_CASE("int8 convolution: sums are exact, for every way that a layer is cut") {
  const ConvShape s = GENERATE(
      ConvShape{1, 1, 1, 1, 1, 1, 1, 1, 0}, ConvShape{1, 20, 20, 32, 48, 3, 3, 1, 1},
      ConvShape{2, 13, 17, 5, 19, 3, 3, 2, 1}, ConvShape{1, 33, 32, 3, 16, 6, 6, 2, 2},
      ConvShape{3, 9, 15, 24, 40, 1, 1, 1, 0}, ConvShape{1, 9, 15, 8, 3, 1, 1, 2, 0},
      ConvShape{1, 3, 200, 2, 33, 3, 3, 1, 1}, ConvShape{1, 7, 9, 12, 18, 3, 3, 1, 1, 3},
      ConvShape{2, 5, 6, 10, 10, 3, 3, 1, 1, 10}, ConvShape{1, 8, 8, 6, 20, 1, 1, 1, 0, 2});
  CAPTURE(s.n, s.h, s.w, s.ic, s.oc, s.kh, s.stride, s.groups);
  const auto w = integers(s.w_numel(), -128, 127, 1);
  const auto x = integers(s.x_numel(), -128, 127, 2), u = integers(s.x_numel(), 0, 255, 3);
  for (const int threads : {1, 3}) {
    const int before = num_threads();
    omp_set_num_threads(threads);
    CHECK(our_sums<int8_t>(s, x, w) == sums_of(s, x, w));
    CHECK(our_sums<uint8_t>(s, u, w) == sums_of(s, u, w));
    omp_set_num_threads(before);
  }
}

TEST_CASE("int8 convolution: the largest products do not saturate") {
  const ConvShape s{1, 12, 12, 64, 16, 3, 3, 1, 1};
  const std::vector<int> x(static_cast<size_t>(s.x_numel()), 255),
      w(static_cast<size_t>(s.w_numel()), -128);
  const auto y = our_sums<uint8_t>(s, x, w);
  CHECK(y == sums_of(s, x, w));
  CHECK(*std::ranges::min_element(y) == -255 * 128 * 9 * 64);
}

TEST_CASE("int8 convolution: what it refuses") {
  const ConvShape s{1, 2, 2, 1, 1};
  const std::vector<int8_t> w = {1}, x(4);
  std::vector<float> y(4);
  cpu::ConvInt8 conv(s, w.data());
  ConvInt8Forward p{.shape = s, .x = x.data(), .y = y.data(), .x_type = DType::kF32};
  CHECK(test::error_of([&] { conv(p); }) == "ConvInt8: x is F32, must be I8 or U8");
  p.x_type = DType::kI8;
  p.y_type = DType::kF16;
  CHECK(test::error_of([&] { conv(p); }) == "ConvInt8: y is F16, must be I8, U8, F32 or I32");
  p.y_type = DType::kF32;
  p.shape.h = 1;
  CHECK(test::error_of([&] { conv(p); }) ==
        "ConvInt8: called with another shape than it was made for");
}
