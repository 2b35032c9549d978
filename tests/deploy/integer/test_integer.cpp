// SPDX-License-Identifier: Apache-2.0
// The parts of the fully integer mode against exact arithmetic.
#include <cmath>
#include <limits>

#include "deploy/engine/integer_steps.h"
#include "deploy/integer/conv.h"
#include "deploy/integer/decode.h"
#include "deploy/integer/lower.h"
#include "deploy/integer/multiplier.h"
#include "deploy/integer/rescale.h"
#include "kernels/backend.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

constexpr int32_t kMin = std::numeric_limits<int32_t>::min();
constexpr int32_t kMax = std::numeric_limits<int32_t>::max();

int32_t any_int(Rng& rng) {
  // of every magnitude
  const double bits = rng.uniform(0, 31);
  const double v = std::exp2(bits) * (rng.uniform() < 0.5 ? -1 : 1);
  return static_cast<int32_t>(std::clamp(v, -2147483648.0, 2147483647.0));
}

Tensor bytes(Shape shape, uint64_t seed, int low, int high) {
  Tensor t(shape, DType::kI8);
  Rng rng(seed);
  for (int8_t& v : t.span<int8_t>())
    v = static_cast<int8_t>(std::floor(rng.uniform(low, high + 1)));
  return t;
}

// A place of its own storage for each.
Place place(int storage, int64_t channels, DType type) {
  return {
      .storage = storage, .byte_offset = 0, .pitch = channels, .channels = channels, .dtype = type};
}

std::vector<int32_t> run_sums(const IntegerConv& p, const Tensor& x, bool plain, std::string& how) {
  const int64_t outputs = p.weight.dim(0);
  std::vector<int32_t> sums(static_cast<size_t>(p.out_rows() * outputs), -77);
  const auto step =
      make_sums_step(p, place(0, x.shape()[3], x.dtype()), place(1, outputs, DType::kI32), plain);
  how = step->implementation;
  step->run({static_cast<std::byte*>(x.raw()), reinterpret_cast<std::byte*>(sums.data())});
  return sums;
}

}  // namespace

TEST_CASE("a multiplier holds every f32 factor exactly, down to where its shift ends") {
  Rng rng(1);
  for (int i = 0; i < 20000; ++i) {
    const float f =
        static_cast<float>(std::exp2(rng.uniform(-17, 29)) * (rng.uniform() < 0.5 ? -1 : 1));
    const Multiplier m = multiplier_of(f);
    REQUIRE(std::ldexp(m.mantissa, -m.shift) == f);
    REQUIRE((m.shift >= 1 && m.shift <= kMaxShift));
  }
  // just below a power of two: the mantissa rounds up to the next one
  CHECK(multiplier_of(1 - 0x1p-40) == multiplier_of(1.0));
  CHECK(multiplier_of(1.0) == Multiplier{1 << 30, 30});
  CHECK(multiplier_of(0.0) == Multiplier{0, 1});
  CHECK(multiplier_of(1e-30).mantissa == 0);
  CHECK(multiply(kMax, multiplier_of(1e-30)) == 0);
  CHECK(test::error_of([] { multiplier_of(0x1p30); }).find("2^30") != std::string::npos);
  CHECK(test::error_of([] { multiplier_of(0x1p30 - 1e-3); }).find("2^30") != std::string::npos);
  CHECK(test::error_of([] { multiplier_of(std::nan("")); }).find("nan") != std::string::npos);
  CHECK(test::error_of([] { addend_of(64, 47); }).find("64") != std::string::npos);
}

TEST_CASE("multiplying rounds once, half to even, also of negative numbers and at the ends") {
  const Multiplier half = multiplier_of(0.5);
  for (int x = -9; x <= 9; ++x) CHECK(multiply(x, half) == std::nearbyint(x * 0.5));
  const Multiplier quarter = multiplier_of(-0.25);
  for (int x = -9; x <= 9; ++x) CHECK(multiply(x, quarter) == std::nearbyint(x * -0.25));
  CHECK(multiply(kMin, multiplier_of(1.0)) == kMin);
  CHECK(multiply(kMax, multiplier_of(1.0)) == kMax);
  CHECK(multiply(kMin, multiplier_of(-0x1.fffffep28)) == -int64_t{kMin} * 0x1fffffe0);
  Rng rng(2);
  double worst = 0;
  for (int i = 0; i < 50000; ++i) {
    const double f = std::exp2(rng.uniform(-40, 20));
    const int32_t x = any_int(rng);
    const Multiplier m = multiplier_of(f);
    // the exact product of the fixed-point number: 62 bits fit a long double
    const long double product = static_cast<long double>(x) * m.mantissa;
    REQUIRE(multiply(x, m) == static_cast<int64_t>(std::nearbyint(std::ldexp(product, -m.shift))));
    if (f < 1)
      worst = std::max(worst, std::abs(static_cast<double>(std::ldexp(product, -m.shift)) - x * f) /
                                  std::max(1.0, std::abs(x * f) * 0x1p-13));
  }
  CHECK(worst < 0x1.1p-18);
}

TEST_CASE("rounding a product to 24 bits equals f32") {
  Rng rng(9);
  for (int i = 0; i < 50000; ++i) {
    const int64_t p = int64_t{any_int(rng)} * any_int(rng);
    REQUIRE(static_cast<float>(significant(p, 24)) == static_cast<float>(p));
    REQUIRE(significant(p, 24) == static_cast<int64_t>(static_cast<float>(p)));
  }
  CHECK(significant(kMin, 24) == kMin);
  CHECK(significant((1 << 24) + 1, 24) == 1 << 24);
  CHECK(significant(-((1 << 24) + 3), 24) == -((1 << 24) + 4));
}

TEST_CASE("rescaling: every form, saturation and zero points, against long double") {
  const auto where = GENERATE(ResidualPlace::kNone, ResidualPlace::kBeforeActivation,
                              ResidualPlace::kAfterActivation);
  const double slope = GENERATE(1.0, 0.0, 0.25);
  const int zero_point = GENERATE(0, -13);
  CAPTURE(static_cast<int>(where), slope, zero_point);
  constexpr int64_t kChannels = 37, kRows = 40;
  Rng rng(3);
  Rescale s;
  s.where = where;
  s.zero_point = zero_point;
  s.low = -128;
  s.high = 127;
  for (int64_t o = 0; o < kChannels; ++o) {
    const Multiplier m = multiplier_of(std::exp2(rng.uniform(-14, -2)));
    s.bias.push_back(static_cast<int32_t>(rng.uniform(-3000, 3000)));
    s.mantissa.push_back(m.mantissa);
    s.shift.push_back(m.shift);
    s.fraction.push_back(static_cast<int32_t>(rng.uniform(-0.5, 0.5) * m.mantissa));
    s.negative.push_back(static_cast<int32_t>(std::nearbyint(slope * m.mantissa)));
    s.fraction_negative.push_back(static_cast<int32_t>(std::nearbyint(slope * s.fraction.back())));
    s.residual.push_back(addend_of(0.75, m.shift));
    s.residual_negative.push_back(addend_of(0.75 * slope, m.shift));
  }
  std::vector<int32_t> sums;
  for (int64_t i = 0; i < kRows * kChannels; ++i)
    sums.push_back(static_cast<int32_t>(rng.uniform(-60000, 60000)));
  const Tensor r = bytes({kRows, kChannels + 2}, 4, -128, 127);
  std::vector<int8_t> y(static_cast<size_t>(kRows * (kChannels + 3)), 99);
  rescale_rows<int8_t>(s, {.sums = sums.data(),
                           .residual = r.data<int8_t>(),
                           .y = y.data(),
                           .rows = kRows,
                           .residual_pitch = kChannels + 2,
                           .y_pitch = kChannels + 3});
  int saturated = 0, low = 0;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t o = 0; o < kChannels; ++o) {
      const size_t c = static_cast<size_t>(o);
      const long double f = std::ldexp(static_cast<long double>(s.mantissa[c]), -s.shift[c]);
      const long double a = 0.75L * r.data<int8_t>()[row * (kChannels + 2) + o];
      long double v = f * (sums[static_cast<size_t>(row * kChannels + o)] + s.bias[c]) +
                      std::ldexp(static_cast<long double>(s.fraction[c]), -s.shift[c]);
      if (where == ResidualPlace::kBeforeActivation) v += a;
      if (v < 0) v *= slope;
      if (where == ResidualPlace::kAfterActivation) v += a;
      const long double want = std::clamp(std::nearbyint(v) + zero_point, -128.0L, 127.0L);
      const int got = y[static_cast<size_t>(row * (kChannels + 3) + o)];
      // a slope of a mantissa rounds; else to the bit
      REQUIRE((got == want || std::abs(v - std::floor(v) - 0.5L) < 1e-6L));
      saturated += got == 127;
      low += got == -128;
    }
    CHECK(y[static_cast<size_t>(row * (kChannels + 3) + kChannels)] == 99);  // the pitch's rest
  }
  // dense rows of few channels are taken together
  const auto few = [](std::vector<int32_t>& v) { v.resize(6); };
  for (auto* v : {&s.bias, &s.mantissa, &s.shift, &s.fraction, &s.negative, &s.fraction_negative})
    few(*v);
  s.residual.resize(6);
  s.residual_negative.resize(6);
  constexpr int64_t kDense = 37;
  std::vector<int8_t> dense(kDense * 6 + 1, 99), single(dense);
  rescale_rows<int8_t>(s, {.sums = sums.data(),
                           .residual = r.data<int8_t>(),
                           .y = dense.data(),
                           .rows = kDense,
                           .residual_pitch = 6,
                           .y_pitch = 6});
  for (int64_t row = 0; row < kDense; ++row)
    rescale_rows<int8_t>(s, {.sums = sums.data() + 6 * row,
                             .residual = r.data<int8_t>() + 6 * row,
                             .y = single.data() + 6 * row,
                             .rows = 1,
                             .residual_pitch = 6,
                             .y_pitch = 6});
  CHECK(dense == single);
  CHECK(saturated > 10);
  CHECK((low > 10 || where != ResidualPlace::kNone || slope < 1));
}

TEST_CASE("adding in integers rounds half to even and saturates") {
  const int8_t a[] = {100, -100, 3, 4, -3, 0};
  const int8_t b[] = {100, -100, 1, 1, -1, 1};
  int8_t y[6];
  integer_add<int8_t>(
      {.a = a, .b = b, .y = y, .rows = 1, .channels = 6, .factor = addend_of(0.5, kFactorBits)});
  CHECK(std::vector<int>(y, y + 6) == std::vector<int>{127, -128, 4, 4, -4, 0});
}

TEST_CASE("sums: the fast step equals the plain definition, for all magnitudes") {
  struct Case {
    Shape x, w;
    int64_t stride, padding, groups;
    bool extreme, exact_only_plain;
  };
  const Case cases[] = {
      {{2, 9, 7, 16}, {24, 3, 3, 16}, 1, 1, 1, false, false},
      {{1, 12, 12, 3}, {16, 3, 3, 3}, 2, 1, 1, false, false},
      {{1, 6, 6, 32}, {32, 1, 1, 32}, 1, 0, 1, false, false},
      {{1, 8, 8, 16}, {16, 3, 3, 1}, 1, 1, 16, false, false},
      {{1, 7, 5, 128}, {20, 3, 3, 128}, 2, 1, 1, true, true},  // sums beyond 2^24
      {{1, 3, 3, 24}, {6, 5, 5, 12}, 1, 2, 2, true, false},
  };
  for (const Case& c : cases)
    for (const DType type : {DType::kU8, DType::kI8}) {
      IntegerConv p;
      p.batch = c.x[0];
      p.height = c.x[1];
      p.width = c.x[2];
      p.stride = c.stride;
      p.padding = c.padding;
      p.groups = c.groups;
      p.out_height = (c.x[1] + 2 * c.padding - c.w[1]) / c.stride + 1;
      p.out_width = (c.x[2] + 2 * c.padding - c.w[2]) / c.stride + 1;
      p.weight = c.extreme ? bytes(c.w, 5, 124, 127) : bytes(c.w, 5, -127, 127);
      Tensor x = c.extreme ? bytes(c.x, 6, -4, -1) : bytes(c.x, 6, -128, 127);
      if (c.extreme && type == DType::kI8) x = bytes(c.x, 6, -128, -124);
      if (type == DType::kU8) {  // the same bits
        Tensor u(c.x, DType::kU8);
        std::copy_n(reinterpret_cast<const uint8_t*>(x.data<int8_t>()), x.numel(),
                    u.data<uint8_t>());
        x = u;
      }
      std::string plain, fast;
      const auto expected = run_sums(p, x, true, plain);
      CHECK(plain == "plain");
      const auto got = run_sums(p, x, false, fast);
      CAPTURE(c.w.str(), name_of(type), fast);
      CHECK(got == expected);
      int64_t largest = 0;
      for (const int32_t v : expected) largest = std::max<int64_t>(largest, std::abs(int64_t{v}));
      const bool is_unsigned = type == DType::kU8;
      CHECK(largest <= largest_sum(p, is_unsigned ? 0 : -128, is_unsigned ? 255 : 127));
      if (c.exact_only_plain) CHECK(largest > (1 << 24));
      // the plain one, in 64 bits, at one place
      int64_t sum = 0;
      const int64_t oh = p.out_height / 2, ow = p.out_width - 1, o = c.w[0] - 1;
      for (int64_t kh = 0; kh < c.w[1]; ++kh)
        for (int64_t kw = 0; kw < c.w[2]; ++kw)
          for (int64_t i = 0; i < c.w[3]; ++i) {
            const int64_t h = oh * c.stride - c.padding + kh, w = ow * c.stride - c.padding + kw;
            if (h < 0 || w < 0 || h >= c.x[1] || w >= c.x[2]) continue;
            const int64_t at = (h * c.x[2] + w) * c.x[3] + (c.groups - 1) * c.w[3] + i;
            const int64_t v = is_unsigned ? x.data<uint8_t>()[at] : x.data<int8_t>()[at];
            sum += v * p.weight.data<int8_t>()[((o * c.w[1] + kh) * c.w[2] + kw) * c.w[3] + i];
          }
      CHECK(expected[static_cast<size_t>((oh * p.out_width + ow) * c.w[0] + o)] == sum);
    }
}

TEST_CASE("decoding in integers is within 3e-5 of a score and 1e-3 of a pixel of the float one") {
  const int64_t reg_max = GENERATE(0, 16);
  const bool objectness = GENERATE(false, true);
  constexpr int64_t kBatch = 2, kClasses = 5;
  IntegerDecode p;
  kernels::HeadMaps q;
  p.levels = q.levels = 2;
  p.batch = q.batch = kBatch;
  p.classes = q.classes = kClasses;
  p.reg_max = q.reg_max = reg_max;
  std::vector<int32_t> ints[4], obj[2];
  std::vector<float> floats[4], obj_floats[2];
  Rng rng(7);
  for (int l = 0; l < 2; ++l) {
    p.level[l].height = q.level[l].height = 6 >> l;
    p.level[l].width = q.level[l].width = 10 >> l;
    p.level[l].stride = 8 << l;
    q.level[l].stride = static_cast<float>(8 << l);
    for (int k = 0; k < 2; ++k) {
      const int64_t n = kBatch * (6 >> l) * (10 >> l) * (k == 0 ? kClasses : 4 * (reg_max + 1));
      for (int64_t i = 0; i < n; ++i) {
        const double v = k == 0 ? rng.uniform(-20, 20) : rng.uniform(-3, reg_max > 0 ? 8 : 30);
        ints[2 * l + k].push_back(static_cast<int32_t>(std::nearbyint(v * (1 << kHeadBits))));
        floats[2 * l + k].push_back(
            std::ldexp(static_cast<float>(ints[2 * l + k].back()), -kHeadBits));
      }
    }
    p.level[l].cls = ints[2 * l].data();
    p.level[l].reg = ints[2 * l + 1].data();
    q.level[l].cls = floats[2 * l].data();
    q.level[l].reg = floats[2 * l + 1].data();
    if (!objectness) continue;
    for (int64_t i = 0; i < kBatch * (6 >> l) * (10 >> l); ++i) {
      obj[l].push_back(static_cast<int32_t>(std::nearbyint(rng.uniform(-9, 9) * (1 << kHeadBits))));
      obj_floats[l].push_back(std::ldexp(static_cast<float>(obj[l].back()), -kHeadBits));
    }
    p.level[l].obj = obj[l].data();
    q.level[l].obj = obj_floats[l].data();
  }
  const int64_t rows = kBatch * p.anchors();
  REQUIRE(p.anchors() == q.anchors());
  std::vector<int32_t> got(static_cast<size_t>(rows * (5 + kClasses)));
  std::vector<float> want(got.size());
  integer_decode(p, got.data());
  kernels::backend(Device::kCpu).decode({q, want.data()});
  double boxes = 0, scores = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double apart = std::abs(std::ldexp(got[i], -kResultBits) - static_cast<double>(want[i]));
    double& worst = i % (5 + kClasses) < 4 ? boxes : scores;
    worst = std::max(worst, apart);
  }
  CAPTURE(boxes, scores);
  CHECK(scores < 3e-5);
  CHECK(boxes < (reg_max > 0 ? 0.01 : 1e-4));
  CHECK(boxes + scores > 0);
}

TEST_CASE("saturated distances give saturated boxes") {
  IntegerDecode p;
  p.levels = 1;
  p.batch = p.classes = 1;
  const int32_t cls[1] = {kMin}, reg[4] = {kMax, 0, kMax, 0};
  p.level[0] = {.cls = cls, .reg = reg, .height = 1, .width = 1, .stride = 32};
  int32_t out[6];
  integer_decode(p, out);
  CHECK(out[0] == 16 << kResultBits);
  CHECK(out[2] == kMax);
  CHECK(out[3] == 0);
  CHECK(out[4] == 1 << kResultBits);
  CHECK(out[5] == 0);
}

TEST_CASE("a convolution in integers: channels of zeros, and biases beyond 32 bits") {
  RealConv real;
  real.weight = test::random_tensor({3, 1, 1, 8}, 8);
  real.bias = Tensor::from(Shape{3}, std::vector<float>{0.3f, 0.7f, -50.0f});
  real.weight_scale = {1.0f / 127, 1.0f, 1e-9f};
  for (int i = 8; i < 16; ++i) real.weight.f32()[i] = 0.0f;
  for (int i = 16; i < 24; ++i) real.weight.f32()[i] *= 1.27e-7f;
  real.source = {0.02, 0};
  real.destination = {0.05, 0};
  real.low = -128;
  real.high = 127;
  IntegerConv p;
  const Rescale s = lower_conv(real, p);
  CHECK(p.weight.data<int8_t>()[8] == 0);
  const auto result = [&](size_t o) {  // of a source of zeros
    return std::ldexp(static_cast<double>(s.bias[o]) * s.mantissa[o], -s.shift[o]) * 0.05;
  };
  CHECK(std::abs(result(0) - 0.3) < 1e-3);
  CHECK(std::abs(result(1) - 0.7) < 1e-4);
  CHECK(std::abs(result(2) + 50.0) < 1e-4);
  CHECK(std::abs(s.bias[2]) <= 1 << 30);
  real.weight = Tensor::full(Shape{1, 8, 8, 1024}, 1.0f);
  real.bias = Tensor();
  real.weight_scale = {1.0f / 127};
  CHECK(test::error_of([&] { lower_conv(real, p); }).find("32 bits") != std::string::npos);
}
