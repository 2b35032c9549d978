// SPDX-License-Identifier: Apache-2.0
#include "kernels/requantize.h"

#include <algorithm>
#include <cmath>

#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

double worst_relative(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = a.size() == b.size() ? 0 : 1e300;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double error = std::abs(a[i] - b[i]) / (1 + std::abs(b[i]));
    worst = std::isnan(error) ? 1e300 : std::max(worst, error);
  }
  return worst;
}

double clipped(double level, double low, double high) { return std::clamp(level, low, high); }

void check_quantize(TestGpu& gpu, int64_t channels, int64_t inner, bool by_inverse,
                    int64_t offset) {
  CAPTURE(channels, inner, by_inverse, offset);
  const int64_t n = channels * inner;
  const std::vector<float> x = random_values(n, 1, -9, 9), dy = random_values(n, 2, -1, 1),
                           scale = random_values(channels, 3, 0.03, 0.11);
  Quantize form{.x = x.data(),
                .scale = scale.data(),
                .channels = channels,
                .inner = inner,
                .by_inverse = by_inverse};
  std::vector<float> q = undefined(n), dx = undefined(n);
  std::vector<double> dscale(static_cast<size_t>(channels), -1.0), reference(dscale.size(), 0.0);
  host_kernels().quantize_forward({form, q.data()});
  host_kernels().quantize_backward({form, dy.data(), dx.data(), dscale.data()});
  int wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto k = static_cast<size_t>(i), c = static_cast<size_t>(i / inner);
    const double steps = double{x[k]} / double{scale[c]};
    // Levels the twin rounds otherwise (ties, within the quotient's error) are not the reference's.
    if (std::abs(std::abs(steps - std::floor(steps)) - 0.5) > 1e-4)
      wrong += q[k] != static_cast<float>(clipped(std::nearbyint(steps), -127, 127));
    const double level = std::nearbyint(steps);
    reference[c] += dy[k] * (level < -127 ? -127.0 : level > 127 ? 127.0 : q[k] - steps);
    wrong += dx[k] != (std::abs(level) <= 127 ? dy[k] : 0.0f);
  }
  CHECK(wrong == 0);
  CHECK(worst_relative(dscale, reference) < 1e-4);

  const DeviceArray xd(gpu, x, offset), dyd(gpu, dy), scale_d(gpu, scale), qd(gpu, undefined(n)),
      dxd(gpu, undefined(n), offset), in_place(gpu, dy);
  const DeviceArrayOf<double> dscale_d(gpu, std::vector<double>(dscale.size(), -1.0));
  form.x = xd.data();
  form.scale = scale_d.data();
  start(gpu, cuda::quantize_forward, {form, qd.data()});
  const QuantizeBackward whole{form, dyd.data(), dxd.data(), dscale_d.data()};
  start(gpu, cuda::quantize_backward, whole);
  start(gpu, cuda::quantize_backward, {form, in_place.data(), in_place.data(), nullptr});
  const DeviceArray yd(gpu, undefined(n));
  start(gpu, cuda::dequantize, {qd.data(), scale_d.data(), channels, inner, yd.data()});
  std::vector<float> y = undefined(n);
  host_kernels().dequantize({q.data(), scale.data(), channels, inner, y.data()});
  for (size_t i = 0; i < y.size(); ++i)
    wrong += y[i] != q[i] * scale[i / static_cast<size_t>(inner)];
  CHECK(wrong == 0);
  CHECK(same_bits(yd.values(), y));
  CHECK(same_bits(qd.values(), q));
  CHECK(same_bits(dxd.values(), dx));
  CHECK(same_bits(in_place.values(), dx));
  CHECK(worst_relative(dscale_d.values(), dscale) < 1e-6);
  const std::vector<double> before = dscale_d.values();
  start(gpu, cuda::quantize_backward, {form, dyd.data(), nullptr, dscale_d.data()});
  CHECK(dscale_d.values() == before);  // alone: the same sums
  xd.require_unchanged();
  dyd.require_unchanged();
  scale_d.require_unchanged();
}

void check_fold(TestGpu& gpu, int64_t channels, Activation act, bool has_bias) {
  CAPTURE(channels, name_of(act), has_bias);
  const std::vector<float> weight = random_values(channels, 1, 0.001, 0.02),
                           real = random_values(channels, 2, -3, 3);
  ConvScales s{
      .source = 0.013f,
      .destination = 0.031f,
      .weight = weight.data(),
      .bias = has_bias ? real.data() : nullptr,
      .channels = channels,
      .epilogue = {.activation = act, .residual_scale = 0.7f, .residual_before_activation = true}};
  std::vector<float> bias = undefined(channels), factor = undefined(channels);
  host_kernels().fold_scales({s, bias.data(), factor.data()});
  const bool folds = act == Activation::kReLU;
  CHECK(folded_epilogue(s) == Epilogue{.activation = act,
                                       .activation_scale = folds ? 1.0f : 1.0f / s.destination,
                                       .residual_scale = folds ? 0.7f : 0.7f * s.destination,
                                       .residual_before_activation = true});
  int wrong = 0;
  for (size_t o = 0; o < weight.size(); ++o) {
    const double product = double{s.source} * double{weight[o]};
    const double b = has_bias ? real[o] / product : 0.0;
    const double f = folds ? product / double{s.destination} : product;
    wrong +=
        !(std::abs(bias[o] - b) <= 1e-7 * std::abs(b)) || !(std::abs(factor[o] - f) < 1e-7 * f);
  }
  CHECK(wrong == 0);
  const DeviceArray wd(gpu, weight, 1), rd(gpu, real), bd(gpu, undefined(channels)),
      fd(gpu, undefined(channels), 1);
  s.weight = wd.data();
  if (has_bias) s.bias = rd.data();
  start(gpu, cuda::fold_scales, {s, bd.data(), fd.data()});
  CHECK(same_bits(bd.values(), bias));
  CHECK(same_bits(fd.values(), factor));
  wd.require_unchanged();
  rd.require_unchanged();
}

struct Form {
  int64_t rows, channels;
  Activation act;
  int residual;  // 0 none, 1 behind the activation, 2 before it
  bool round;
  int64_t offset;
  bool gained = false;
};

void check_requantize(TestGpu& gpu, const Form& s) {
  CAPTURE(s.rows, s.channels, name_of(s.act), s.residual, s.round, s.offset, s.gained);
  const std::vector<float> gain = random_values(s.channels, 6, 0.3, 2.5);
  const int64_t n = s.rows * s.channels;
  std::vector<float> sums = random_values(n, 1, -30000, 30000),
                     residual = random_values(n, 2, -128, 127);
  for (auto* v : {&sums, &residual})
    for (float& value : *v) value = std::nearbyint(value);
  const std::vector<float> bias = random_values(s.channels, 3, -3000, 3000),
                           factor = random_values(s.channels, 4, 0.001, 0.006),
                           dy = random_values(n, 5, -1, 1);
  Requantize form;
  form.rows = s.rows;
  form.channels = s.channels;
  form.epilogue = {.activation = s.act,
                   .activation_scale = 0.75f,
                   .residual_scale = 0.8f,  // times an integer: never a tie
                   .residual_before_activation = s.residual == 2};
  form.round = s.round;
  const auto point = [&](const float* a, const float* b, const float* c, const float* d) {
    form.sums = a;
    form.bias = b;
    form.factor = c;
    form.residual = s.residual != 0 ? d : nullptr;
  };
  point(sums.data(), bias.data(), factor.data(), residual.data());
  if (s.gained) form.gain = gain.data();
  std::vector<float> y = undefined(n), dv = undefined(n), dresidual = undefined(n);
  double dscale = -1.0;
  host_kernels().requantize_forward({form, y.data()});
  host_kernels().requantize_backward(
      {form, 0.5f, dy.data(), dv.data(), s.residual != 0 ? dresidual.data() : nullptr, &dscale});

  const DeviceArray sd(gpu, sums, s.offset), bd(gpu, bias), fd(gpu, factor), rd(gpu, residual),
      dyd(gpu, dy), yd(gpu, undefined(n)), dvd(gpu, undefined(n)), drd(gpu, undefined(n));
  const DeviceArrayOf<double> dscale_d(gpu, {-1.0});
  point(sd.data(), bd.data(), fd.data(), rd.data());
  const DeviceArray gd(gpu, gain);
  if (s.gained) form.gain = gd.data();
  start(gpu, cuda::requantize_forward, {form, yd.data()});
  const RequantizeBackward back{
      form, 0.5f, dyd.data(), dvd.data(), s.residual != 0 ? drd.data() : nullptr, dscale_d.data()};
  start(gpu, cuda::requantize_backward, back);

  // An exponential may take a value over the border to the next level, and a contraction may one
  // that lies on it.
  const bool exact = s.act == Activation::kIdentity || s.act == Activation::kReLU ||
                     s.act == Activation::kLeakyReLU;
  const std::vector<float> got = yd.values(), got_dv = dvd.values(), got_dr = drd.values();
  int differ = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const bool same =
        exact ? got[i] == y[i] : std::abs(got[i] - y[i]) <= 1e-5 * (1 + std::abs(y[i]));
    if (same) continue;
    ++differ;
    CHECK(s.round);
    CHECK(std::abs(got[i] - y[i]) <= 1.0f);
  }
  CHECK(differ <= (exact ? 0 : 1 + static_cast<int>(n / 1000)));
  int gradients = 0;
  for (size_t i = 0; i < got_dv.size(); ++i)
    gradients += std::abs(got_dv[i] - dv[i]) > 2e-6 ||
                 (s.residual != 0 && std::abs(got_dr[i] - dresidual[i]) > 2e-6);
  CHECK(gradients <= (exact ? 0 : 1 + static_cast<int>(n / 1000)));
  if (s.residual == 0) drd.require_unchanged();

  // From the formulas, in double.
  double reference = 0;
  int wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto k = static_cast<size_t>(i), c = static_cast<size_t>(i % s.channels);
    double v = (double{sums[k]} + double{bias[c]}) * double{factor[c]};
    if (s.residual == 2) v += double{form.epilogue.residual_scale} * residual[k];
    const double pre = v;
    if (s.act == Activation::kReLU) v = std::max(v, 0.0);
    if (s.act == Activation::kLeakyReLU) v = v > 0 ? v : v * double{kLeakySlope};
    if (s.act == Activation::kSiLU) v = v / (1 + std::exp(-v));
    const double g = s.gained ? gain[c] : 1.0;
    v *= 0.75 * g;
    if (s.residual == 1) v += double{form.epilogue.residual_scale} * residual[k];
    const double level = std::nearbyint(v);
    const bool inside = level >= -128 && level <= 127;
    if (std::abs(std::abs(v - std::floor(v)) - 0.5) > 1e-3) {
      wrong += !(std::abs(y[k] - (s.round ? clipped(level, -128, 127) : v)) < 1e-3);
      const double d = !s.round || inside ? dy[k] : 0.0;
      if (s.residual == 1) wrong += !(std::abs(dresidual[k] - 0.5 * d) < 1e-6);
      if (s.act == Activation::kReLU) wrong += !(std::abs(dv[k] - (pre > 0 ? d * g : 0.0)) < 1e-6);
    }
    reference += dy[k] * (inside ? level - v : clipped(level, -128, 127));
  }
  CHECK(wrong == 0);
  CHECK(worst_relative({dscale}, {reference}) < 2e-3);
  CHECK(worst_relative(dscale_d.values(), {dscale}) < (exact ? 1e-4 : 2e-3));
  for (const DeviceArray* a : {&sd, &bd, &fd, &rd, &dyd}) a->require_unchanged();
}

}  // namespace

// Quantization and requantization with LSQ's gradients.
KERNEL_CASE("requantization kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const bool by_inverse : {false, true})
      for (const int64_t offset : {0, 1}) {
        for (const int64_t inner : {1, 4, 17, 9001})
          check_quantize(gpu, 1, inner, by_inverse, offset);
        check_quantize(gpu, 3, 8196, by_inverse, offset);
        check_quantize(gpu, 68, 27, by_inverse, offset);
      }
    for (const int64_t channels : {0, 1, 3, 17, 68, 85, 300})
      for (const Activation act : {Activation::kReLU, Activation::kSiLU})
        for (const bool bias : {true, false}) check_fold(gpu, channels, act, bias);
    for (const Activation act : {Activation::kIdentity, Activation::kReLU, Activation::kSiLU})
      for (const int residual : {0, 1, 2})
        for (const bool round : {true, false}) {
          check_requantize(gpu, {33, 17, act, residual, round, 0});
          check_requantize(gpu, {150, 68, act, residual, round, 0, true});
        }
    for (const int64_t channels : {1, 3, 4, 68})
      for (const int64_t rows : {1, 3})
        check_requantize(gpu, {rows, channels, Activation::kLeakyReLU, 1, true, 1});
    check_requantize(gpu, {0, 4, Activation::kReLU, 0, true, 0});
  }
}

}  // namespace sextant::test
