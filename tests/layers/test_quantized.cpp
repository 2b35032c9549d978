// SPDX-License-Identifier: Apache-2.0
// Functions on quantized tensors against compositions of plain functions, and by hand.
#include <cmath>

#include "layers/quantized.h"
#include "support/gradcheck.h"
#include "support/support.h"

using namespace sextant;

namespace {

QuantRange range_of(float amax, bool is_unsigned, bool learned = false) {
  return {Variable(Tensor::full(Shape{1}, amax), learned), is_unsigned};
}

Tensor random_levels(Shape shape, uint64_t seed, bool is_unsigned) {
  const Tensor t(shape);
  Rng rng(seed);
  for (float& v : t.span<float>())
    v = static_cast<float>(is_unsigned ? rng.below(256) : rng.below(255) - 127);
  return t;
}

struct Case {
  Activation act;
  bool residual, before, transposed, is_unsigned, rounded;
};

}  // namespace

TEST_CASE("fake quantization by levels, straight-through and LSQ gradients by hand") {
  const bool is_unsigned = GENERATE(false, true);
  const QuantRange range = range_of(0.7f, is_unsigned, true);
  const Variable x(test::random_tensor(Shape{2, 5, 7, 3}, 3, -1, 1), true);
  const Variable y = fake_quant(x, range);
  const Tensor w = test::random_tensor(x.shape(), 4);
  backward({{y, w}});
  const double s = range.scale(), low = range.low(), high = range.high();
  double step = 0;
  int64_t clipped = 0;
  for (int64_t i = 0; i < w.numel(); ++i) {
    const double v = x.f32()[i] / s, q = std::nearbyint(v), dy = w.f32()[i];
    const bool inside = q >= low && q <= high;
    clipped += !inside;
    CHECK(y.f32()[i] == Approx(s * std::clamp(q, low, high)).margin(1e-7));
    CHECK(x.grad().f32()[i] == (inside ? w.f32()[i] : 0.0f));
    step += dy * (inside ? q - v : (q < low ? low : high));
  }
  CHECK(clipped > 20);
  const double expected = step / std::sqrt(5 * 7 * 3 * high) * high;
  CHECK(range.amax.grad().item() == Approx(expected).epsilon(1e-4));
}

TEST_CASE("where everything is clipped, LSQ's gradient is the numeric one") {
  const bool is_unsigned = GENERATE(false, true);
  // Both ends when signed; 3 values per image, so g = 1 / sqrt(3 high), and amax counts high times.
  const Tensor x = Tensor::from(
      Shape{2, 3},
      std::vector<float>{9, 7, 8, 5, is_unsigned ? 6.f : -6.f, is_unsigned ? 9.f : -9.f});
  const double high = is_unsigned ? 255 : 127, factor = std::sqrt(high / 3);
  const Variable scale_by(Tensor::full(Shape{1}, static_cast<float>(1 / (factor * high))));
  const double apart = test::gradcheck(
      [&](const std::vector<Variable>& in) {
        const Variable y = fake_quant(Variable(x), {in[0], is_unsigned});
        // The gradient of amax is factor * high times that of y by amax.
        return make_result("rescale", y.data(), {y}, [&](const Tensor& dy, const auto&) {
          const Tensor d = dy.clone();
          for (float& v : d.span<float>()) v *= scale_by.f32()[0];
          return std::vector<Tensor>{d};
        });
      },
      {Tensor::full(Shape{1}, 2.0f)});
  CHECK(apart < 2e-3);
}

TEST_CASE("a quantized convolution is one of fake-quantized operands, gradients included") {
  const Case c = GENERATE(Case{Activation::kReLU, false, false, false, true, true},
                          Case{Activation::kSiLU, false, false, false, false, true},
                          Case{Activation::kIdentity, true, false, false, false, true},
                          Case{Activation::kReLU, true, true, false, true, true},
                          Case{Activation::kSiLU, true, true, false, false, true},
                          Case{Activation::kHardswish, true, false, false, false, true},
                          Case{Activation::kLeakyReLU, false, false, true, false, true},
                          Case{Activation::kIdentity, false, false, false, false, false},
                          Case{Activation::kReLU, true, false, false, false, false});
  CAPTURE(name_of(c.act), c.residual, c.before, c.transposed, c.rounded);
  const int64_t kernel = c.transposed ? 2 : 3;
  const int64_t groups = c.act == Activation::kReLU && !c.residual ? 2 : 1;
  const Shape out = c.transposed ? Shape{2, 10, 12, 6} : Shape{2, 5, 6, 6};
  const float factor = 0.75f;

  QuantizedConv conv;
  conv.weight = Variable(test::random_tensor(Shape{6, kernel, kernel, 4 / groups}, 1), true);
  conv.weight_scale = Variable(test::random_tensor(Shape{6}, 2, 0.5 / 127, 0.9 / 127), true);
  conv.bias = Variable(test::random_tensor(Shape{6}, 3), true);
  conv.params = {1, 1, groups};
  conv.transposed = c.transposed;
  conv.epilogue = {
      .activation = c.act, .residual_scale = factor, .residual_before_activation = c.before};
  conv.source = range_of(1.5f, c.is_unsigned);
  const QuantRange to = range_of(1.1f, c.is_unsigned, true),
                   same = range_of(1.1f, c.is_unsigned, true);
  if (c.rounded) conv.destination = to;
  const Tensor xq = random_levels(Shape{2, 5, 6, 4}, 5, c.is_unsigned);
  const Tensor rq = c.rounded ? random_levels(out, 6, c.is_unsigned) : test::random_tensor(out, 6);
  const Variable x(xq, true), r(rq, true);
  if (c.residual) conv.residual = r;
  const Variable y = quantized_conv(x, conv);

  // The same of plain functions on real numbers; the rounded weight is a leaf.
  const float sx = conv.source.scale();
  const auto times = [](const Tensor& t, float f) {
    const Tensor v = t.clone();
    for (float& e : v.span<float>()) e *= f;
    return v;
  };
  const Variable x2(times(xq, sx), true), r2(c.rounded ? times(rq, to.scale()) : rq.clone(), true);
  const Tensor rounded = conv.weight.data().clone();
  std::vector<double> mask;
  for (int64_t i = 0; i < rounded.numel(); ++i) {
    const float s = conv.weight_scale.f32()[i / (rounded.numel() / 6)];
    const float q = std::nearbyint(rounded.f32()[i] / s);
    mask.push_back(std::abs(q) <= 127);
    rounded.f32()[i] = std::clamp(q, -127.0f, 127.0f) * s;
  }
  const Variable w2(rounded, true), b2(conv.bias.data().clone(), true);
  Variable v = c.transposed ? conv_transpose2d(x2, w2, b2) : conv2d(x2, w2, b2, {1, 1, groups});
  const Variable alpha(Tensor::full(Shape{1}, factor));
  if (c.residual && c.before) v = add(v, r2, alpha);
  v = activation(v, c.act);
  if (c.residual && !c.before) v = add(v, r2, alpha);
  if (c.rounded) v = quantize(v, same);

  REQUIRE(y.shape() == out);
  int64_t apart = 0;
  for (int64_t i = 0; i < y.data().numel(); ++i)
    apart += std::abs(y.f32()[i] - v.f32()[i]) > (c.rounded ? 0.5f : 1e-4f);
  CHECK(apart == 0);

  const Tensor w = test::random_tensor(out, 7);
  backward({{y, w}});
  backward({{v, w}});
  CHECK(test::relative_difference(x.grad(), x2.grad()) < 1e-5);
  CHECK(test::relative_difference(conv.bias.grad(), b2.grad()) < 1e-5);
  if (c.residual) CHECK(test::relative_difference(r.grad(), r2.grad()) < 1e-5);
  if (c.rounded) CHECK(test::relative_difference(to.amax.grad(), same.amax.grad()) < 1e-3);
  const int64_t inner = rounded.numel() / 6;
  for (int64_t o = 0; o < 6; ++o) {
    double step = 0;
    const double s = conv.weight_scale.f32()[o];
    for (int64_t i = o * inner; i < (o + 1) * inner; ++i) {
      const double d = w2.grad().f32()[i], q = std::nearbyint(conv.weight.f32()[i] / s);
      CHECK(conv.weight.grad().f32()[i] ==
            Approx(d * mask[static_cast<size_t>(i)]).epsilon(1e-3).margin(2e-4));
      step += d * (std::abs(q) <= 127 ? q - conv.weight.f32()[i] / s : std::copysign(127.0, q));
    }
    CHECK(conv.weight_scale.grad().f32()[o] ==
          Approx(step / std::sqrt(127.0 * static_cast<double>(inner))).epsilon(1e-3).margin(2e-3));
  }
}

TEST_CASE("real results of a quantized convolution: numeric gradients") {
  // Scale 1: the gradient by value is that by integer.
  QuantizedConv conv;
  conv.weight = Variable(test::random_tensor(Shape{5, 3, 3, 4}, 1));
  conv.weight_scale = Variable(Tensor::full(Shape{5}, 1.0f / 127));
  conv.source = range_of(127.0f, false);
  conv.epilogue.activation = Activation::kSiLU;
  conv.params = {2, 1, 1};
  conv.epilogue.residual_scale = -0.5f;
  if (GENERATE(false, true)) conv.gain = test::random_tensor(Shape{5}, 9, 0.5, 2.0);
  const double apart = test::gradcheck(
      [&](const std::vector<Variable>& in) {
        QuantizedConv c = conv;
        c.bias = in[1];
        c.residual = in[2];
        return quantized_conv(in[0], c);
      },
      {test::random_tensor(Shape{1, 6, 6, 4}, 2), test::random_tensor(Shape{5}, 3),
       test::random_tensor(Shape{1, 3, 3, 5}, 4)});
  CHECK(apart < 2e-3);
}

TEST_CASE("adding in one range saturates, and stops gradients there") {
  const QuantRange range = range_of(127.0f, false);
  const auto values = [](std::vector<float> v) {
    return Variable(Tensor::from(Shape{1, 1, 1, 4}, v), true);
  };
  const Variable a = values({100, -100, 3, 0}), b = values({60, -60, 5, 1});
  const Variable y = quantized_add(a, b, 0.5f, range);
  const Variable z = quantized_add(y, b, 1.0f, range);
  CHECK(test::max_difference(y.data(), values({127, -128, 6, 0}).data()) == 0);  // 130 and 5.5, 0.5
  CHECK(test::max_difference(z.data(), values({127, -128, 11, 1}).data()) == 0);
  backward({{y, Tensor::full(y.shape(), 2.0f)}});
  CHECK(test::max_difference(a.grad(), values({0, 0, 2, 2}).data()) == 0);
  CHECK(test::max_difference(b.grad(), values({0, 0, 1, 1}).data()) == 0);
}

TEST_CASE("quantized functions refuse shapes and ranges that do not fit") {
  const auto zeros = [](const Shape& shape) { return Variable(Tensor::zeros(shape)); };
  const Variable x = zeros({1, 4, 4, 3});
  // A convolution that fits, but for one thing.
  const auto refusal = [&](const std::function<void(QuantizedConv&)>& spoil) {
    QuantizedConv conv;
    conv.weight = zeros({4, 3, 3, 3});
    conv.weight_scale = Variable(Tensor::full(Shape{4}, 1.0f));
    conv.bias = zeros({4});
    conv.params = {1, 1, 1};
    conv.source = range_of(1, true);
    spoil(conv);
    return test::error_of([&] { quantized_conv(x, conv); });
  };
  CHECK(refusal([](auto&) {}) == "no error");
  SECTION("a range without a positive amax") {
    for (const QuantRange& none : {QuantRange{}, range_of(0, true), range_of(-1, true),
                                   QuantRange{Variable(Tensor::full(Shape{2}, 1.0f))}}) {
      const std::string expected = ": a range needs an amax [1] above 0";
      CHECK(test::error_of([&] { quantize(x, none); }) == "quantize" + expected);
      CHECK(test::error_of([&] { dequantize(x, none); }) == "dequantize" + expected);
      CHECK(test::error_of([&] { quantized_add(x, x, 1, none); }) == "quantized_add" + expected);
      CHECK(refusal([&](auto& c) { c.source = none; }) == "quantized_conv" + expected);
      CHECK(refusal([&](auto& c) { c.destination = none; }) == "quantized_conv" + expected);
    }
  }
  SECTION("summands of two shapes") {
    CHECK(test::error_of([&] {
            quantized_add(x, zeros({1, 4, 4, 1}), 1, range_of(1, true));
          }) == "quantized_add: shapes [1,4,4,3] and [1,4,4,1]");
  }
  SECTION("a weight for other channels") {
    const std::string start = "quantized_conv: weight ", end = ", input [1,4,4,3]";
    CHECK(refusal([&](auto& c) {
            c.weight = zeros({4, 3, 3, 2});
          }) == start + "[4,3,3,2] in 1 groups" + end);
    CHECK(refusal([&](auto& c) { c.params.groups = 3; }) == start + "[4,3,3,3] in 3 groups" + end);
    CHECK(refusal([&](auto& c) {
            c.weight = zeros({4, 3, 3, 1});
            c.params.groups = 3;  // 4 channels cannot form three groups
          }) == start + "[4,3,3,1] in 3 groups" + end);
    CHECK(refusal([&](auto& c) {
            c.weight = zeros({4, 27});
          }) == start + "[4,27] in 1 groups" + end);
  }
  SECTION("scales or a bias of other channels") {
    CHECK(refusal([&](auto& c) { c.weight_scale = zeros({3}); }) ==
          "quantized_conv: scales [3] and bias [4] for 4 channels");
    CHECK(refusal([&](auto& c) { c.bias = zeros({1}); }) ==
          "quantized_conv: scales [4] and bias [1] for 4 channels");
  }
  SECTION("gains of other channels") {
    CHECK(refusal([&](auto& c) { c.gain = Tensor::full(Shape{3}, 1.0f); }) ==
          "quantized_conv: gains [3] for 4 channels");
  }
  SECTION("a transposed one that is not 2x2, or has groups or a residual") {
    const std::string expected =
        "quantized_conv: a transposed convolution needs a square kernel, one group and no residual";
    const auto transposed = [&](const std::function<void(QuantizedConv&)>& spoil) {
      return refusal([&](auto& c) {
        c.transposed = true;
        c.weight = zeros({4, 2, 2, 3});
        spoil(c);
      });
    };
    CHECK(transposed([](auto&) {}) == "no error");
    CHECK(transposed([&](auto& c) { c.weight = zeros({4, 2, 3, 3}); }) == expected);
    CHECK(transposed([&](auto& c) {
            c.weight = zeros({3, 2, 2, 1});
            c.weight_scale = c.bias = zeros({3});
            c.params.groups = 3;
          }) == expected);
    CHECK(transposed([&](auto& c) { c.residual = zeros({1, 8, 8, 4}); }) == expected);
  }
  SECTION("a kernel larger than the padded input") {
    for (const int64_t stride : {1, 2}) {
      CHECK(refusal([&](auto& c) {
              c.weight = zeros({4, 5, 5, 3});
              c.params = {stride, 0, 1};
            }) == "quantized_conv: kernel [4,5,5,3] on input [1,4,4,3]");
      CHECK(refusal([&](auto& c) {
              c.weight = zeros({4, 1, 7, 3});
              c.params = {stride, 1, 1};
            }) == "quantized_conv: kernel [4,1,7,3] on input [1,4,4,3]");
    }
  }
  SECTION("a residual of another shape than the result") {
    CHECK(refusal([&](auto& c) { c.residual = x; }) ==
          "quantized_conv: residual [1,4,4,3] for a result [1,4,4,4]");
  }
}
