// SPDX-License-Identifier: Apache-2.0
// The int8 convolutions on every instruction set that this processor has, by every algorithm: the
// same integers as from their definition.
#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/conv/conv_algorithms.h"
#include "kernels/conv_int8.h"
#include "kernels/cpu/isa.h"
#include "kernels/math/requantize.h"
#include "support/conv_sums.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::kernels;
using cpu::ConvAlgorithm;
using test::each_algorithm;
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
                              const std::vector<int>& w, ConvAlgorithm algorithm) {
  const std::vector<X> bytes(x.begin(), x.end());
  const std::vector<int8_t> weights(w.begin(), w.end());
  std::vector<int32_t> y(static_cast<size_t>(s.y_numel()), -1);
  const cpu::ConvInt8 conv(s, weights.data(), algorithm);
  conv({.shape = s,
        .x = bytes.data(),
        .y = y.data(),
        .x_type = DTypeOf<X>::value,
        .y_type = DType::kI32});
  return {y.begin(), y.end()};
}

constexpr ConvShape kShapes[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 0},        {1, 20, 20, 32, 48, 3, 3, 1, 1},
    {2, 13, 17, 5, 19, 3, 3, 2, 1},     {2, 13, 17, 5, 19, 3, 3, 1, 1},
    {1, 33, 32, 3, 16, 6, 6, 2, 2},     {1, 32, 31, 3, 16, 3, 3, 2, 1},
    {3, 9, 15, 24, 40, 1, 1, 1, 0},     {1, 9, 15, 8, 3, 1, 1, 2, 0},
    {1, 3, 100, 2, 33, 3, 3, 1, 1},     {1, 7, 9, 12, 18, 3, 3, 1, 1, 3},
    {2, 5, 6, 10, 10, 3, 3, 1, 1, 10},  {1, 8, 8, 6, 20, 1, 1, 1, 0, 2},
    {1, 9, 20, 40, 40, 5, 5, 2, 2, 40}, {1, 9, 7, 4, 8, 3, 3, 1, 1, 4},
    {1, 6, 6, 16, 16, 3, 3, 1, 0},      {1, 11, 4, 40, 7, 3, 3, 1, 2},
    {1, 12, 12, 4, 8, 1, 3, 1, 1},      {1, 12, 10, 9, 31, 5, 5, 3, 2},
    {1, 5, 5, 256, 16, 3, 3, 1, 1},     {1, 4, 4, 20, 64, 1, 1, 1, 1},
    {1, 9, 71, 24, 24, 3, 3, 1, 1, 24}, {2, 7, 6, 72, 72, 5, 5, 2, 2, 72},
    {1, 8, 50, 8, 8, 3, 3, 2, 1, 8},    {1, 30, 70, 100, 100, 3, 3, 3, 1, 100}};

}  // namespace

TEST_CASE("int8 convolution: sums are exact, for every way of splitting a layer") {
  const ConvShape s = GENERATE(from_range(std::begin(kShapes), std::end(kShapes)));
  CAPTURE(s.n, s.h, s.w, s.ic, s.oc, s.kh, s.stride, s.groups);
  const auto x = integers(s.x_numel(), -128, 127, 2), u = integers(s.x_numel(), 0, 255, 3);
  // F(4x4) with 256 channels of random weights would not fit 32 bits.
  const auto w =
      s.ic > 100 ? integers(s.w_numel(), -40, 40, 1) : integers(s.w_numel(), -128, 127, 1);
  const auto expected_x = sums_of(s, x, w), expected_u = sums_of(s, u, w);
  each_algorithm(s, [&](ConvAlgorithm algorithm) {
    for (const int threads : {1, 3}) {
      const int before = num_threads();
      set_num_threads(threads);
      CHECK(our_sums<int8_t>(s, x, w, algorithm) == expected_x);
      CHECK(our_sums<uint8_t>(s, u, w, algorithm) == expected_u);
      set_num_threads(before);
    }
  });
}

TEST_CASE("int8 convolution: the largest products do not saturate") {
  // As many channels as F(4x4) can take: 2^31 / 64 / (255 * 128 * 9).
  const ConvShape s{1, 12, 12, 114, 16, 3, 3, 1, 1};
  const int sign = GENERATE(1, -1);
  std::vector<int> w(static_cast<size_t>(s.w_numel()), -128), x(static_cast<size_t>(s.x_numel()));
  // all the same, and such as bring the transforms to their ends
  const bool alternating = GENERATE(false, true);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t pixel = i / 114, row = pixel / 12, column = pixel % 12;
    x[i] = alternating && (row + column) % 2 ? 0 : 255;
  }
  for (size_t i = 0; alternating && i < w.size(); ++i) w[i] = i / 114 % 2 ? 127 : -128;
  if (sign > 0)
    for (int& v : w) v = std::min(127, -v);
  const auto expected = sums_of(s, x, w);
  each_algorithm(s, [&](ConvAlgorithm a) { CHECK(our_sums<uint8_t>(s, x, w, a) == expected); });
  for (int& v : x) v -= 128;
  const auto shifted = sums_of(s, x, w);
  each_algorithm(s, [&](ConvAlgorithm a) { CHECK(our_sums<int8_t>(s, x, w, a) == shifted); });
}

TEST_CASE("int8 convolution: F(m x m) is taken only where its sums fit 32 bits") {
  const auto algorithm = [](int64_t ic, int8_t weight) {
    const ConvShape s{1, 80, 80, ic, 64, 3, 3, 1, 1};
    const std::vector<int8_t> w(static_cast<size_t>(s.w_numel()), weight);
    return cpu::ConvInt8(s, w.data()).algorithm();
  };
  const cpu::ForcedIsa portable(cpu::Isa::kPortable);
  CHECK(algorithm(114, -128) == ConvAlgorithm::kWinograd4);
  CHECK(algorithm(115, -128) == ConvAlgorithm::kWinograd2);
  CHECK(algorithm(1827, -128) == ConvAlgorithm::kWinograd2);
  CHECK(algorithm(1828, -128) == ConvAlgorithm::kDirect);
  CHECK(algorithm(1828, 2) == ConvAlgorithm::kWinograd4);
}

namespace {

// Everything around the sums; with a margin, in slices of wider tensors.
template <class Y>
void check_epilogue(const ConvShape& s, const Epilogue& epilogue, bool with_residual, bool gained,
                    int64_t margin) {
  const int64_t x_pitch = s.ic + margin, y_pitch = s.oc + margin;
  const int64_t pixels = s.n * s.oh() * s.ow();
  const auto dense = integers(s.x_numel(), 0, 255, 1), w = integers(s.w_numel(), -128, 127, 2);
  std::vector<uint8_t> x(static_cast<size_t>(s.n * s.h * s.w * x_pitch), 99);
  for (size_t i = 0; i < dense.size(); ++i) {
    const auto ic = static_cast<size_t>(s.ic);
    x[i / ic * static_cast<size_t>(x_pitch) + i % ic] = static_cast<uint8_t>(dense[i]);
  }
  const std::vector<int8_t> weights(w.begin(), w.end());
  const auto sums = sums_of(s, dense, w);
  Rng rng(4);
  std::vector<float> bias, factor, gain;
  for (int64_t o = 0; o < s.oc; ++o) {
    bias.push_back(static_cast<float>(rng.uniform(-3000.0, 3000.0)));
    factor.push_back(static_cast<float>(rng.uniform(1e-4, 3e-3)));
    gain.push_back(gained ? static_cast<float>(rng.uniform(0.2, 3.0)) : 1.0f);
  }
  const auto levels = integers(pixels * y_pitch, std::is_same_v<Y, uint8_t> ? 0 : -128, 127, 5);
  const std::vector<Y> residual(levels.begin(), levels.end());

  std::vector<Y> expected = residual;
  for (size_t i = 0; i < sums.size(); ++i) {
    const auto oc = static_cast<size_t>(s.oc), o = i % oc;
    Y& y = expected[i / oc * static_cast<size_t>(y_pitch) + o];
    dispatch_activation(epilogue.activation, [&](auto tag) {
      const requantizing::Requantized<decltype(tag)::value> form(epilogue, with_residual);
      const auto r = static_cast<float>(y);
      const float v =
          form.post(form.pre(static_cast<float>(sums[i]), bias[o], factor[o], r), r, gain[o]);
      if constexpr (std::is_same_v<Y, float>)
        y = v;
      else
        y = static_cast<Y>(
            std::nearbyint(std::clamp(v, static_cast<float>(std::numeric_limits<Y>::min()),
                                      static_cast<float>(std::numeric_limits<Y>::max()))));
    });
  }

  each_algorithm(s, [&](ConvAlgorithm algorithm) {
    std::vector<Y> y = residual;  // what is overwritten is the residual
    const cpu::ConvInt8 conv(s, weights.data(), algorithm);
    conv({.shape = s,
          .x = x.data(),
          .bias = bias.data(),
          .factor = factor.data(),
          .residual = with_residual ? y.data() : nullptr,
          .y = y.data(),
          .x_type = DType::kU8,
          .y_type = DTypeOf<Y>::value,
          .epilogue = epilogue,
          .x_pitch = x_pitch,
          .y_pitch = y_pitch,
          .residual_pitch = y_pitch,
          .gain = gained ? gain.data() : nullptr});
    if constexpr (std::is_same_v<Y, float>) {
      for (size_t i = 0; i < y.size(); ++i)
        REQUIRE(std::abs(y[i] - expected[i]) <= 2e-6f * std::max(1.0f, std::abs(expected[i])));
    } else {
      CHECK(y == expected);
    }
  });
}

}  // namespace

TEST_CASE("int8 convolution: every epilogue and type of result") {
  const auto activation =
      GENERATE(Activation::kIdentity, Activation::kReLU, Activation::kLeakyReLU, Activation::kSiLU,
               Activation::kHardswish, Activation::kSigmoid, Activation::kMish);
  const int residual = GENERATE(0, 1, 2);
  const ConvShape s =
      GENERATE(ConvShape{1, 9, 10, 6, 32, 3, 3, 1, 1}, ConvShape{1, 9, 10, 21, 21, 3, 3, 1, 1, 21},
               ConvShape{1, 9, 10, 6, 21, 3, 3, 1, 1}, ConvShape{1, 5, 7, 16, 37, 1, 1, 1, 0});
  const Epilogue epilogue{.activation = activation,
                          .activation_scale = activation == Activation::kSigmoid ? 200.0f : 1.0f,
                          .residual_scale = residual ? 0.7f : 1.0f,
                          .residual_before_activation = residual == 1};
  CAPTURE(name_of(activation), residual, s.oc, s.kh);
  const int64_t margin = s.groups > 1 ? GENERATE(0, 5) : 5;
  for (const bool gained : {false, true}) {
    check_epilogue<int8_t>(s, epilogue, residual > 0, gained, margin);
    check_epilogue<uint8_t>(s, epilogue, residual > 0, gained, margin);
    check_epilogue<float>(s, epilogue, residual > 0, gained, margin);
  }
}

TEST_CASE("int8 convolution: refuses unsupported parameters") {
  const ConvShape s{1, 2, 2, 1, 2};
  const std::vector<int8_t> w = {1, 1}, x(4);
  std::vector<float> y(8);
  const cpu::ConvInt8 conv(s, w.data());
  ConvInt8Forward p{.shape = s, .x = x.data(), .y = y.data(), .x_type = DType::kF32};
  CHECK(test::error_of([&] { conv(p); }) == "ConvInt8: x is F32, must be I8 or U8");
  p.x_type = DType::kI8;
  p.y_type = DType::kF16;
  CHECK(test::error_of([&] { conv(p); }) == "ConvInt8: y is F16, must be I8, U8, F32 or I32");
  p.y_type = DType::kF32;
  p.shape.h = 1;
  CHECK(test::error_of([&] { conv(p); }) ==
        "ConvInt8: called with another shape than it was made for");
  CHECK(test::error_of([&] { cpu::ConvInt8(s, w.data(), ConvAlgorithm::kWinograd4); }) ==
        "make_winograd_int8: a 1 x 1 kernel of stride 1 with m = 4: must be 3 x 3 of stride 1 with "
        "sums that fit 32 bits times m^3, m 2 or 4");
}
