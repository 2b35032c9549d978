// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv_int8.h"

#include <cmath>

#include "simt/cases/cases.h"
#include "simt/cases/conv_reference.h"
#include "simt/cases/strided.h"
#include "support/conv_sums.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

struct IntegerCase {
  ConvShape shape;
  bool x_unsigned = false;
  DType y_type = DType::kI8;
  bool bias = true;
  Activation act = Activation::kIdentity;
  enum { kNone, kBefore, kAfter, kInPlace } residual = kNone;
  float residual_scale = 1.0f;
  float activation_scale = 1.0f;
  bool gain = false;
  float spread = 1.0f;                      // of the results; above 1, many saturate
  int64_t offset = 0;                       // elements, of x and y
  int64_t x_gap = 0, y_gap = 0, r_gap = 0;  // elements between two pixels

  Epilogue epilogue() const {
    return {.activation = act,
            .activation_scale = activation_scale,
            .residual_scale = residual_scale,
            .residual_before_activation = residual == kBefore};
  }
};

std::vector<float> gains_of(const IntegerCase& c) { return random_values(c.shape.oc, 14, 0.25, 3); }

int64_t integer_in(Rng& rng, bool is_unsigned) { return rng.below(256) - (is_unsigned ? 0 : 128); }

// From the contract, one float operation after the other.
std::vector<float> int8_reference(const IntegerCase& c, const std::vector<int64_t>& sums,
                                  const std::vector<float>& bias, const std::vector<float>& factor,
                                  const std::vector<float>& residual) {
  std::vector<float> out;
  for (size_t i = 0; i < sums.size(); ++i) {
    const size_t o = i % static_cast<size_t>(c.shape.oc);
    float v = static_cast<float>(sums[i]);
    if (c.bias) v = v + bias[o];
    v = v * factor[o];
    if (c.residual == IntegerCase::kBefore) v = std::fma(c.residual_scale, residual[i], v);
    const float gain = c.gain ? gains_of(c)[o] : 1.0f;
    v = activate(c.act, v) * (c.activation_scale * gain);
    if (c.residual == IntegerCase::kAfter || c.residual == IntegerCase::kInPlace)
      v = std::fma(c.residual_scale, residual[i], v);
    if (c.y_type != DType::kF32) {
      v = std::nearbyint(v);
      v = c.y_type == DType::kI8 ? std::min(std::max(v, -128.0f), 127.0f)
                                 : std::min(std::max(v, 0.0f), 255.0f);
    }
    out.push_back(v);
  }
  return out;
}

template <class X, class Y>
std::vector<float> run_int8(TestGpu& gpu, const IntegerCase& c, const std::vector<int>& x,
                            const std::vector<int>& w, const std::vector<float>& bias,
                            const std::vector<float>& factor, const std::vector<float>& residual) {
  const ConvShape& s = c.shape;
  const DeviceArrayOf<X> dx(gpu, spread<X>({x.begin(), x.end()}, s.ic, c.x_gap, static_cast<X>(55)),
                            c.offset);
  const DeviceArrayOf<int8_t> dw(gpu, {w.begin(), w.end()});
  const DeviceArray db(gpu, bias), df(gpu, factor), dg(gpu, gains_of(c));
  const std::vector<Y> r(residual.begin(), residual.end());
  const DeviceArrayOf<Y> dr(gpu, spread(r, s.oc, c.r_gap, static_cast<Y>(44)));
  const bool in_place = c.residual == IntegerCase::kInPlace;
  const Y untouched = static_cast<Y>(99);
  const DeviceArrayOf<Y> dy(
      gpu, spread(in_place ? r : std::vector<Y>(r.size(), untouched), s.oc, c.y_gap, untouched),
      c.offset);
  ConvInt8Forward p;
  p.shape = c.shape;
  p.x = dx.data();
  p.w = dw.data();
  p.bias = c.bias ? db.data() : nullptr;
  p.factor = df.data();
  p.gain = c.gain ? dg.data() : nullptr;
  if (c.residual != IntegerCase::kNone) p.residual = in_place ? dy.data() : dr.data();
  p.y = dy.data();
  p.x_type = c.x_unsigned ? DType::kU8 : DType::kI8;
  p.y_type = c.y_type;
  p.epilogue = c.epilogue();
  if (c.x_gap) p.x_pitch = s.ic + c.x_gap;
  if (c.y_gap) p.y_pitch = s.oc + c.y_gap;
  if (c.r_gap) p.residual_pitch = s.oc + c.r_gap;
  if (in_place) p.residual_pitch = p.y_pitch;
  start(gpu, cuda::conv_int8_forward, p);
  for (const DeviceMemory* m : std::initializer_list<const DeviceMemory*>{&dx, &dw, &db, &df, &dr})
    m->require_unchanged();
  const std::vector<Y> all = dy.values();
  for (size_t i = 0; i < all.size(); ++i)
    if (static_cast<int64_t>(i) % (s.oc + c.y_gap) >= s.oc) REQUIRE(all[i] == untouched);
  const std::vector<Y> y = gathered(all, s.oc, c.y_gap);
  return {y.begin(), y.end()};
}

template <class X>
std::vector<float> run_typed(TestGpu& gpu, const IntegerCase& c, const std::vector<int>& x,
                             const std::vector<int>& w, const std::vector<float>& bias,
                             const std::vector<float>& factor, const std::vector<float>& residual) {
  if (c.y_type == DType::kI8) return run_int8<X, int8_t>(gpu, c, x, w, bias, factor, residual);
  if (c.y_type == DType::kU8) return run_int8<X, uint8_t>(gpu, c, x, w, bias, factor, residual);
  return run_int8<X, float>(gpu, c, x, w, bias, factor, residual);
}

template <class X, class Y>
std::vector<float> on_cpu_typed(const IntegerCase& c, const std::vector<int>& x,
                                const std::vector<int>& w, const std::vector<float>& bias,
                                const std::vector<float>& factor,
                                const std::vector<float>& residual) {
  const ConvShape& s = c.shape;
  const auto hx = spread<X>({x.begin(), x.end()}, s.ic, c.x_gap, X{55});
  const std::vector<int8_t> hw(w.begin(), w.end());
  const std::vector<float> gain = gains_of(c);
  const auto hr = spread<Y>({residual.begin(), residual.end()}, s.oc, c.r_gap, Y{44});
  std::vector<Y> hy(static_cast<size_t>(s.y_numel() / s.oc * (s.oc + c.y_gap)), Y{99});
  host_kernels().conv_int8_forward(
      {.shape = s,
       .x = hx.data(),
       .w = hw.data(),
       .bias = c.bias ? bias.data() : nullptr,
       .factor = factor.data(),
       .residual = c.residual == IntegerCase::kNone ? nullptr : hr.data(),
       .y = hy.data(),
       .x_type = DTypeOf<X>::value,
       .y_type = c.y_type,
       .epilogue = c.epilogue(),
       .x_pitch = s.ic + c.x_gap,
       .y_pitch = s.oc + c.y_gap,
       .residual_pitch = s.oc + c.r_gap,
       .gain = c.gain ? gain.data() : nullptr});
  const std::vector<Y> y = gathered(hy, s.oc, c.y_gap);
  return {y.begin(), y.end()};
}
std::vector<float> on_cpu(const IntegerCase& c, const std::vector<int>& x,
                          const std::vector<int>& w, const std::vector<float>& bias,
                          const std::vector<float>& factor, const std::vector<float>& residual) {
  const auto typed = [&](auto zero) {
    using Y = decltype(zero);
    return c.x_unsigned ? on_cpu_typed<uint8_t, Y>(c, x, w, bias, factor, residual)
                        : on_cpu_typed<int8_t, Y>(c, x, w, bias, factor, residual);
  };
  if (c.y_type == DType::kI8) return typed(int8_t{});
  if (c.y_type == DType::kU8) return typed(uint8_t{});
  return typed(float{});
}

void check_conv_int8(TestGpu& gpu, const IntegerCase& c) {
  const ConvShape& s = c.shape;
  CAPTURE(s.n, s.h, s.w, s.ic, s.oc, s.kh, s.kw, s.stride, s.pad, c.x_unsigned, name_of(c.y_type),
          c.bias, name_of(c.act), static_cast<int>(c.residual), c.residual_scale, c.offset, c.x_gap,
          c.y_gap, c.r_gap);
  Rng rng(11);
  std::vector<int> x(static_cast<size_t>(s.x_numel())), w(static_cast<size_t>(s.w_numel()));
  for (int& v : x) v = static_cast<int>(integer_in(rng, c.x_unsigned));
  for (int& v : w) v = static_cast<int>(integer_in(rng, false));
  const std::vector<int64_t> sums = sums_of(s, x, w);
  std::vector<float> bias = random_values(s.oc, 12, -3000, 3000);
  // A power of two and an integer bias in every third channel: results half-way between integers.
  std::vector<float> factor = random_values(s.oc, 13, 0.5, 1.5);
  const double size = std::sqrt(static_cast<double>(s.kh * s.kw * (s.ic / s.groups))) * 75 * 75;
  for (size_t o = 0; o < factor.size(); ++o) {
    factor[o] *= static_cast<float>(c.spread * 60 / size);
    if (o % 3 != 2) continue;
    factor[o] = std::exp2(std::round(std::log2(factor[o])));
    bias[o] = std::round(bias[o]);
  }
  std::vector<float> residual(sums.size());
  for (float& v : residual) v = static_cast<float>(integer_in(rng, c.y_type == DType::kU8));
  const std::vector<float> expected = int8_reference(c, sums, bias, factor, residual);
  CHECK(on_cpu(c, x, w, bias, factor, residual) == expected);
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const std::vector<float> y = c.x_unsigned
                                     ? run_typed<uint8_t>(gpu, c, x, w, bias, factor, residual)
                                     : run_typed<int8_t>(gpu, c, x, w, bias, factor, residual);
    REQUIRE(y.size() == expected.size());
    int wrong = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      // The device's exponential may differ by its last bits, and so the rounding by one.
      const float allowed = c.act == Activation::kSiLU
                                ? (c.y_type == DType::kF32 ? 1e-5f * (1 + std::abs(y[i])) : 1.0f)
                                : 0.0f;
      wrong += !(std::abs(y[i] - expected[i]) <= allowed);
    }
    CHECK(wrong == 0);
  }
}

}  // namespace

// Exact integers over types, epilogues and shapes.
KERNEL_CASE("int8 convolution kernels") {
  bool is_unsigned = false;
  const DType types[] = {DType::kI8, DType::kU8, DType::kF32};
  size_t turn = 0;
  std::vector<ConvShape> shapes = ragged_shapes();
  for (const ConvShape& s : even_shapes()) shapes.push_back(s);
  shapes.push_back({2, 9, 14, 32, 48, 3, 3, 1, 1});  // 16 channels at once
  shapes.push_back({1, 25, 10, 80, 120, 1, 1, 1, 0});
  for (const ConvShape& s : shapes) {
    check_conv_int8(gpu, {.shape = s, .x_unsigned = is_unsigned, .y_type = types[turn++ % 3]});
    is_unsigned = !is_unsigned;
  }
  for (const ConvShape& s : {ConvShape{1, 5, 6, 16, 24, 3, 3, 1, 1}, {1, 5, 6, 3, 17, 3, 3, 2, 1}})
    for (const DType y : types)
      for (const bool u : {false, true}) {
        check_conv_int8(gpu, {.shape = s, .x_unsigned = u, .y_type = y, .act = Activation::kReLU});
        check_conv_int8(gpu, {.shape = s,
                              .x_unsigned = u,
                              .y_type = y,
                              .bias = false,
                              .act = Activation::kLeakyReLU,
                              .residual = IntegerCase::kBefore,
                              .residual_scale = 0.37f,
                              .spread = 4});
        check_conv_int8(gpu, {.shape = s,
                              .x_unsigned = u,
                              .y_type = y,
                              .act = Activation::kReLU,
                              .residual = IntegerCase::kInPlace,
                              .residual_scale = 1.0f});
        check_conv_int8(gpu, {.shape = s,
                              .x_unsigned = u,
                              .y_type = y,
                              .act = Activation::kSiLU,
                              .residual = IntegerCase::kAfter,
                              .residual_scale = 0.7f,
                              .activation_scale = 1.3f});
      }
  for (const ConvShape& s : {ConvShape{1, 5, 6, 16, 24, 3, 3, 1, 1}, {3, 5, 6, 3, 17, 3, 3, 2, 1}})
    for (const int64_t gap : {1, 8, 16}) {
      check_conv_int8(gpu, {.shape = s, .x_unsigned = true, .x_gap = gap, .y_gap = gap});
      check_conv_int8(gpu, {.shape = s,
                            .y_type = DType::kU8,
                            .residual = IntegerCase::kBefore,
                            .residual_scale = 0.37f,
                            .y_gap = 2 * gap,
                            .r_gap = gap});
      check_conv_int8(
          gpu,
          {.shape = s, .y_type = DType::kF32, .residual = IntegerCase::kInPlace, .y_gap = gap});
    }
  check_conv_int8(gpu, {.shape = {1, 5, 6, 16, 24, 3, 3, 1, 1}, .offset = 4});
  for (const Activation act : {Activation::kReLU, Activation::kHardswish})
    check_conv_int8(gpu, {.shape = {1, 5, 6, 16, 20, 3, 3, 1, 1},
                          .act = act,
                          .activation_scale = 0.3f,
                          .gain = true});
  check_conv_int8(gpu, {.shape = {1, 5, 6, 16, 24, 3, 3, 1, 1}, .x_unsigned = true, .offset = 1});
}

KERNEL_CASE("depthwise int8 convolution kernels") {
  const DType types[] = {DType::kI8, DType::kU8, DType::kF32};
  size_t turn = 0;
  for (const ConvShape& s : depthwise_shapes())
    for (const bool u : {false, true}) {
      check_conv_int8(gpu, {.shape = s, .x_unsigned = u, .y_type = types[turn++ % 3]});
      check_conv_int8(gpu, {.shape = s,
                            .x_unsigned = u,
                            .y_type = types[turn++ % 3],
                            .act = Activation::kReLU,
                            .residual = IntegerCase::kAfter,
                            .residual_scale = 0.7f,
                            .gain = turn % 2 == 0,
                            .offset = 1,
                            .x_gap = 3,
                            .y_gap = 8});
    }
}

}  // namespace sextant::test
