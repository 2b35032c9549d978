// SPDX-License-Identifier: Apache-2.0
// Quantized layers and calibration on the device of the SIMT runner, against the host's.
#include <cmath>

#include "layers/quantized.h"
#include "quant/ranges/calibrator.h"
#include "simt/accelerator.h"
#include "support/support.h"

namespace sextant::test {
namespace {

Tensor random_levels(Shape shape, uint64_t seed) {
  const Tensor t(shape);
  Rng rng(seed);
  for (float& v : t.span<float>()) v = static_cast<float>(rng.below(256) - 128);
  return t;
}

struct QuantizedConvCase {
  Activation act;
  bool residual, before, transposed;
};

// The result, then the gradients of x, weight, weight_scale, bias, residual and amax.
std::vector<Tensor> quantized_conv_on(Device device, const QuantizedConvCase& c) {
  const auto leaf = [&](const Tensor& t) { return Variable(t.to(device), true); };
  const int64_t kernel = c.transposed ? 2 : 3;
  const Variable x = leaf(random_levels(Shape{2, 5, 6, 4}, 5));
  const Variable amax = leaf(Tensor::full(Shape{1}, 1.1f));
  QuantizedConv conv;
  conv.weight = leaf(random_tensor(Shape{6, kernel, kernel, 4}, 1));
  conv.weight_scale = leaf(random_tensor(Shape{6}, 2, 0.5 / 127, 0.9 / 127));
  conv.bias = leaf(random_tensor(Shape{6}, 3));
  conv.params = {1, 1, 1};
  conv.transposed = c.transposed;
  conv.epilogue = {
      .activation = c.act, .residual_scale = 0.75f, .residual_before_activation = c.before};
  conv.source = {Variable(Tensor::full(Shape{1}, 1.5f, device)), false};
  conv.destination = QuantRange{amax, false};
  if (c.residual) conv.residual = leaf(random_levels(Shape{2, 5, 6, 6}, 6));
  const Variable y = quantized_conv(x, conv);
  backward({{y, random_tensor(y.shape(), 7).to(device)}});
  std::vector<Tensor> out{y.data(),           x.grad(),
                          conv.weight.grad(), conv.weight_scale.grad(),
                          conv.bias.grad(),   amax.grad()};
  if (c.residual) out.push_back(conv.residual.grad());
  for (Tensor& t : out) t = t.to(Device::kCpu);
  return out;
}

// Both ways through real numbers, and a sum.
std::vector<Tensor> rounded_sum_on(Device device) {
  const Variable a(random_tensor(Shape{2, 3, 5, 3}, 1, -1, 1).to(device), true);
  const Variable b(random_levels(Shape{2, 3, 5, 3}, 2).to(device), true);
  const QuantRange range{Variable(Tensor::full(Shape{1}, 0.7f, device), true), false};
  const Variable y = dequantize(quantized_add(quantize(a, range), b, 0.5f, range), range);
  backward({{y, random_tensor(y.shape(), 3).to(device)}});
  std::vector<Tensor> out{y.data(), a.grad(), b.grad(), range.amax.grad()};
  for (Tensor& t : out) t = t.to(Device::kCpu);
  return out;
}

double values_apart(const Tensor& a, const Tensor& b) {
  double worst = a.shape() == b.shape() ? 0 : 1e300;
  for (int64_t i = 0; i < std::min(a.numel(), b.numel()); ++i) {
    const double error = std::abs(double{a.f32()[i]} - b.f32()[i]) / (1 + std::abs(b.f32()[i]));
    worst = std::isnan(error) ? 1e300 : std::max(worst, error);
  }
  return worst;
}

TEST_CASE("quantized convolutions on a device") {
  const QuantizedConvCase c =
      GENERATE(QuantizedConvCase{Activation::kReLU, false, false, false},
               QuantizedConvCase{Activation::kIdentity, true, false, false},
               QuantizedConvCase{Activation::kReLU, true, true, false},
               QuantizedConvCase{Activation::kLeakyReLU, false, false, true});
  CAPTURE(name_of(c.act), c.residual, c.before, c.transposed);
  const TestDevice device;
  if (!device.usable()) return;
  const std::vector<Tensor> host = quantized_conv_on(Device::kCpu, c),
                            there = quantized_conv_on(Device::kCuda, c);
  CHECK(values_apart(there[0], host[0]) == 0);  // integers
  for (size_t i = 1; i < host.size(); ++i) {
    CAPTURE(i);
    CHECK(values_apart(there[i], host[i]) < 1e-5);
  }
}

TEST_CASE("quantization and sums of quantized tensors on a device") {
  const TestDevice device;
  if (!device.usable()) return;
  const std::vector<Tensor> host = rounded_sum_on(Device::kCpu),
                            there = rounded_sum_on(Device::kCuda);
  for (size_t i = 0; i < host.size(); ++i) {
    CAPTURE(i);
    CHECK(values_apart(there[i], host[i]) <= (i == 3 ? 1e-5 : 0));
  }
}

TEST_CASE("calibration of device tensors") {
  using namespace quant;
  const Binning binning =
      GENERATE(Binning::kNested, Binning::kFixed, Binning::kTorch, Binning::kNumpy);
  const TestDevice device;
  if (!device.usable()) return;
  const CollectorOptions options{.binning = binning, .bins = 64, .range = 2.0f};
  HistogramCollector host(options), there(options);
  for (const double most : {0.0, 0.5, 3.0, 1.0}) {
    const Tensor x = random_tensor(Shape{3, 7, 37}, 9, -most, most), y = x.to(Device::kCuda);
    host.collect(x.span<float>());
    there.collect({y.f32(), static_cast<size_t>(y.numel())}, Device::kCuda);
    CHECK(there.max_seen() == host.max_seen());
    CHECK(there.histogram().counts == host.histogram().counts);
    CHECK(there.histogram().edges == host.histogram().edges);
    std::vector<float> amax(7, 0.25f), amax_there = amax;
    update_channel_max(x.span<float>(), 3, 37, amax);
    update_channel_max({y.f32(), static_cast<size_t>(y.numel())}, 3, 37, amax_there, Device::kCuda);
    CHECK(amax_there == amax);
  }
  const Tensor bad = Tensor::from<float>({3}, {1.0f, std::nanf(""), -INFINITY}).to(Device::kCuda);
  CHECK(error_of([&] {
          there.collect({bad.f32(), 3}, Device::kCuda);
        }) == "calibration: 2 of 3 values are not finite");
}

}  // namespace
}  // namespace sextant::test
