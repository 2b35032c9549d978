// SPDX-License-Identifier: Apache-2.0
// Every differentiable function against central differences, and against a plain reference where
// one is short.
#include "core/trace.h"
#include "layers/functional.h"
#include "support/gradcheck.h"
#include "support/support.h"

namespace {

using namespace sextant;
using test::gradcheck;
using test::random_tensor;
using Inputs = std::vector<Variable>;

constexpr double kTolerance = 2e-3;  // f32 values through differences of step 1e-2

// A straightforward convolution in double.
Tensor reference_conv(const Tensor& x, const Tensor& w, const Tensor& b, ConvParams p) {
  const int64_t oh = (x.dim(1) + 2 * p.padding - w.dim(1)) / p.stride + 1;
  const int64_t ow = (x.dim(2) + 2 * p.padding - w.dim(2)) / p.stride + 1;
  const int64_t og = w.dim(0) / p.groups, ig = w.dim(3);
  Tensor y(Shape{x.dim(0), oh, ow, w.dim(0)});
  float* out = y.f32();
  for (int64_t n = 0; n < x.dim(0); ++n)
    for (int64_t i = 0; i < oh; ++i)
      for (int64_t j = 0; j < ow; ++j)
        for (int64_t o = 0; o < w.dim(0); ++o) {
          double sum = b.defined() ? b.f32()[o] : 0.0;
          for (int64_t a = 0; a < w.dim(1); ++a)
            for (int64_t c = 0; c < w.dim(2); ++c) {
              const int64_t r = i * p.stride + a - p.padding, q = j * p.stride + c - p.padding;
              if (r < 0 || q < 0 || r >= x.dim(1) || q >= x.dim(2)) continue;
              for (int64_t k = 0; k < ig; ++k)
                sum +=
                    static_cast<double>(
                        x.f32()[((n * x.dim(1) + r) * x.dim(2) + q) * x.dim(3) + o / og * ig + k]) *
                    w.f32()[((o * w.dim(1) + a) * w.dim(2) + c) * ig + k];
            }
          *out++ = static_cast<float>(sum);
        }
  return y;
}

BatchNormState norm_state(int64_t channels, uint64_t seed) {
  return {Variable(random_tensor(Shape{channels}, seed, 0.5, 1.5), true),
          Variable(random_tensor(Shape{channels}, seed + 1, -0.5, 0.5), true),
          random_tensor(Shape{channels}, seed + 2, -0.2, 0.2),
          random_tensor(Shape{channels}, seed + 3, 0.5, 1.5)};
}

}  // namespace

TEST_CASE("conv2d equals a plain convolution, forward and in all gradients") {
  struct Case {
    int64_t n, h, w, in, out, k;
    ConvParams p;
    bool bias;
  };
  for (const Case& c : {Case{1, 1, 1, 1, 1, 1, {1, 0, 1}, false},
                        {2, 5, 7, 3, 4, 3, {1, 1, 1}, true},
                        {1, 8, 6, 3, 16, 3, {2, 1, 1}, false},
                        {2, 7, 9, 17, 5, 3, {2, 1, 1}, true},
                        {2, 6, 5, 16, 32, 1, {1, 0, 1}, true},
                        {1, 7, 6, 8, 3, 1, {2, 0, 1}, false},
                        {1, 6, 6, 8, 8, 3, {1, 1, 8}, false},
                        {1, 6, 6, 8, 12, 3, {1, 1, 2}, true},
                        {1, 9, 9, 4, 4, 5, {1, 2, 1}, false},
                        {1, 9, 9, 4, 4, 3, {1, 0, 1}, false}}) {
    INFO(c.n << "x" << c.h << "x" << c.w << "x" << c.in << " to " << c.out << " kernel " << c.k
             << " stride " << c.p.stride << " groups " << c.p.groups);
    const Tensor x = random_tensor(Shape{c.n, c.h, c.w, c.in}, 1);
    const Tensor w = random_tensor(Shape{c.out, c.k, c.k, c.in / c.p.groups}, 2);
    const Tensor b = c.bias ? random_tensor(Shape{c.out}, 3) : Tensor();
    const Variable y = conv2d(Variable(x), Variable(w), c.bias ? Variable(b) : Variable(), c.p);
    CHECK(test::relative_difference(y.data(), reference_conv(x, w, b, c.p)) < 1e-6);
    std::vector<Tensor> inputs{x, w};
    if (c.bias) inputs.push_back(b);
    CHECK(gradcheck(
              [&](const Inputs& v) { return conv2d(v[0], v[1], c.bias ? v[2] : Variable(), c.p); },
              inputs) < kTolerance);
  }
}

TEST_CASE("conv2d names both shapes when they do not fit") {
  const Variable x(Tensor::zeros(Shape{8, 80, 80, 48})), w(Tensor::zeros(Shape{64, 3, 3, 32}));
  CHECK(test::error_of([&] {
          conv2d(x, w, {}, {1, 1, 1});
        }) ==
        "conv2d: weight [64,3,3,32] has 32 input channels, input [8,80,80,48] has 48 (groups 1)");
}

TEST_CASE("conv_transpose2d scatters each pixel's patch") {
  const Tensor x = random_tensor(Shape{2, 3, 4, 5}, 1), w = random_tensor(Shape{3, 2, 2, 5}, 2),
               b = random_tensor(Shape{3}, 3);
  const Variable y = conv_transpose2d(Variable(x), Variable(w), Variable(b));
  REQUIRE(y.shape() == Shape{2, 6, 8, 3});
  double worst = 0;
  for (int64_t n = 0; n < 2; ++n)
    for (int64_t i = 0; i < 6; ++i)
      for (int64_t j = 0; j < 8; ++j)
        for (int64_t o = 0; o < 3; ++o) {
          double sum = b.f32()[o];
          for (int64_t k = 0; k < 5; ++k)
            sum += static_cast<double>(x.f32()[((n * 3 + i / 2) * 4 + j / 2) * 5 + k]) *
                   w.f32()[((o * 2 + i % 2) * 2 + j % 2) * 5 + k];
          worst = std::max(worst, std::abs(sum - y.f32()[((n * 6 + i) * 8 + j) * 3 + o]));
        }
  CHECK(worst < 1e-6);
  CHECK(gradcheck([](const Inputs& v) { return conv_transpose2d(v[0], v[1], v[2]); }, {x, w, b}) <
        kTolerance);
}

TEST_CASE("rep_bn_act has the gradients of its formula") {
  // Smooth activations only: a kink inside the step would be measured as an error.
  for (const Activation act : {Activation::kIdentity, Activation::kSiLU, Activation::kMish})
    for (const int k : {1, 2, 3})
      for (const int64_t channels : {1, 3, 16, 35})
        for (const bool training : {true, false}) {
          INFO(name_of(act) << ", " << k << " branches, " << channels << " channels, training "
                            << training);
          std::vector<Tensor> inputs;
          for (int b = 0; b < k; ++b)
            inputs.push_back(
                random_tensor(Shape{2, 3, 4, channels}, 10 + static_cast<uint64_t>(b)));
          std::vector<BatchNormState> states;
          for (int b = 0; b < k; ++b)
            states.push_back(norm_state(channels, 20 + 10 * static_cast<uint64_t>(b)));
          for (const auto& s : states) {
            inputs.push_back(s.gamma.data());
            inputs.push_back(s.beta.data());
          }
          const double worst = gradcheck(
              [&](const Inputs& v) {
                std::vector<BatchNormState> norms = states;
                for (size_t b = 0; b < norms.size(); ++b) {
                  norms[b].gamma = v[static_cast<size_t>(k) + 2 * b];
                  norms[b].beta = v[static_cast<size_t>(k) + 2 * b + 1];
                }
                return rep_bn_act({v.begin(), v.begin() + k}, norms, act, {1e-3f, 0.03f, training});
              },
              inputs, {.samples = 8});
          CHECK(worst < 5e-3);
        }
}

TEST_CASE("rep_bn_act keeps its variance when the mean is far from zero") {
  Tensor x = random_tensor(Shape{4, 8, 8, 16}, 5);
  double sum = 0, square = 0;
  for (int64_t i = 0; i < x.numel(); ++i) x.f32()[i] += 1000.0f;
  for (int64_t i = 0; i < x.numel(); i += 16) {
    sum += x.f32()[i];
    square += (x.f32()[i] - 1000.0) * (x.f32()[i] - 1000.0);
  }
  const double n = 256, mean = sum / n - 1000.0, var = square / n - mean * mean;
  BatchNormState s{Variable(Tensor::full(Shape{16}, 1)), Variable(Tensor::zeros(Shape{16})),
                   Tensor::zeros(Shape{16}), Tensor::zeros(Shape{16})};
  const Variable y = batch_norm(Variable(x), s, {1e-3f, 1.0f, true});
  CHECK(s.running_var.f32()[0] == Approx(var * n / (n - 1)).epsilon(1e-4));
  // x itself is rounded to 6e-5 around 1000.
  CHECK(y.f32()[0] == Approx((x.f32()[0] - 1000.0 - mean) / std::sqrt(var + 1e-3)).margin(5e-4));
}

TEST_CASE("rep_vgg equals the chain of functions that it replaces") {
  for (const int64_t stride : {1, 2})
    for (const bool identity : {false, true}) {
      if (identity && stride == 2) continue;
      const int64_t in = identity ? 8 : 5, out = 8;
      std::vector<Tensor> inputs{random_tensor(Shape{2, 6, 6, in}, 1),
                                 random_tensor(Shape{out, 3, 3, in}, 2),
                                 random_tensor(Shape{out, 1, 1, in}, 3)};
      std::vector<BatchNormState> norms{norm_state(out, 30), norm_state(out, 40)};
      if (identity) norms.push_back(norm_state(out, 50));
      const auto leaves = [&] {
        Inputs v;
        for (const auto& t : inputs) v.emplace_back(t.clone(), true);
        return v;
      };
      const BatchNormParams params{1e-3f, 0.0f, true};
      const Tensor w = random_tensor(Shape{2, 6 / stride, 6 / stride, out}, 4);

      const Inputs a = leaves();
      const Variable ya = rep_vgg(a[0], a[1], a[2], norms, stride, Activation::kReLU, params);
      backward({{ya, w}});
      const Tensor gamma_grad = norms[0].gamma.grad();
      for (const auto& n : norms) {
        n.gamma.clear_grad();
        n.beta.clear_grad();
      }
      const Inputs b = leaves();
      Inputs branches{conv2d(b[0], b[1], {}, {stride, 1, 1}),
                      conv2d(b[0], b[2], {}, {stride, 0, 1})};
      if (identity) branches.push_back(b[0]);
      const Variable yb = rep_bn_act(branches, norms, Activation::kReLU, params);
      backward({{yb, w}});
      CHECK(test::relative_difference(ya.data(), yb.data()) < 1e-6);
      for (size_t i = 0; i < a.size(); ++i)
        CHECK(test::relative_difference(a[i].grad(), b[i].grad()) < 1e-5);
      CHECK(test::relative_difference(gamma_grad, norms[0].gamma.grad()) < 1e-5);
    }
}

TEST_CASE("activations have the gradients of their formulas") {
  for (const Activation act :
       {Activation::kIdentity, Activation::kSiLU, Activation::kSigmoid, Activation::kMish,
        Activation::kHardswish, Activation::kReLU, Activation::kLeakyReLU}) {
    INFO(name_of(act));
    // Away from the kinks at -3, 0 and 3.
    for (const auto& [low, high] : {std::pair{-2.9, -0.1}, {0.1, 2.9}, {3.1, 8.0}, {-8.0, -3.1}})
      CHECK(gradcheck([&](const Inputs& v) { return activation(v[0], act); },
                      {random_tensor(Shape{2, 3, 5}, 7, low, high)}) < kTolerance);
  }
  const auto value = [](Activation a, float x) {
    return activation(Variable(Tensor::full(Shape{1}, x)), a).data().item();
  };
  CHECK(value(Activation::kReLU, -1) == 0);
  CHECK(value(Activation::kLeakyReLU, -1) == Approx(-0.01));
  CHECK(value(Activation::kSiLU, 1) == Approx(0.7310585786));
  CHECK(value(Activation::kHardswish, 1) == Approx(2.0 / 3));
  CHECK(value(Activation::kSigmoid, -100) == Approx(0).margin(1e-30));
  CHECK(value(Activation::kSigmoid, 100) == 1);
  CHECK(value(Activation::kMish, 1) == Approx(0.8650983883));
  CHECK(value(Activation::kMish, 50) == Approx(50));
}

TEST_CASE("max_pool2d takes the maximum and sends the gradient there") {
  // Values far enough apart that the probing step never changes the winner.
  Tensor x(Shape{2, 5, 6, 3});
  Rng rng(11);
  std::vector<int64_t> order(static_cast<size_t>(x.numel()));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  for (size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[static_cast<size_t>(rng.below(static_cast<int64_t>(i)))]);
  for (size_t i = 0; i < order.size(); ++i) x.f32()[i] = static_cast<float>(order[i]) * 0.1f - 9.0f;
  for (const PoolParams p : {PoolParams{2, 2, 0}, {5, 1, 2}, {3, 2, 1}}) {
    CHECK(gradcheck([&](const Inputs& v) { return max_pool2d(v[0], p); }, {x}) < kTolerance);
    const Variable y = max_pool2d(Variable(x), p);
    double worst = 0;
    for (int64_t n = 0; n < 2; ++n)
      for (int64_t i = 0; i < y.dim(1); ++i)
        for (int64_t j = 0; j < y.dim(2); ++j)
          for (int64_t c = 0; c < 3; ++c) {
            float best = -1e30f;
            for (int64_t a = i * p.stride - p.padding; a < i * p.stride - p.padding + p.kernel; ++a)
              for (int64_t b = j * p.stride - p.padding; b < j * p.stride - p.padding + p.kernel;
                   ++b)
                if (a >= 0 && b >= 0 && a < 5 && b < 6)
                  best = std::max(best, x.f32()[((n * 5 + a) * 6 + b) * 3 + c]);
            worst = std::max<double>(
                worst, std::abs(best - y.f32()[((n * y.dim(1) + i) * y.dim(2) + j) * 3 + c]));
          }
    CHECK(worst == 0);
  }
}

TEST_CASE("max_pool2d refuses a window larger than the padded input, at any stride") {
  const Variable x(Tensor::zeros(Shape{1, 8, 4, 2}));
  for (const int64_t stride : {1, 2, 3}) {
    CHECK(test::error_of([&] {
            max_pool2d(x, {5, stride, 0});
          }) == "max_pool2d: kernel 5 on input [1,8,4,2]");
    CHECK(max_pool2d(x, {5, stride, 1}).dim(2) == (4 + 2 - 5) / stride + 1);
  }
}

TEST_CASE("upsample, add, scale, concat and slices") {
  const Tensor a = random_tensor(Shape{2, 2, 3, 4}, 1), b = random_tensor(Shape{2, 2, 3, 4}, 2),
               c = random_tensor(Shape{2, 2, 3, 1}, 3);
  CHECK(gradcheck([](const Inputs& v) { return upsample_nearest(v[0], 2); }, {a}) < kTolerance);
  CHECK(gradcheck([](const Inputs& v) { return add(v[0], v[1]); }, {a, b}) < kTolerance);
  CHECK(gradcheck([](const Inputs& v) { return add(v[0], v[0]); }, {a}) < kTolerance);
  CHECK(gradcheck([](const Inputs& v) { return scale(v[0], -1.5f); }, {a}) < kTolerance);
  CHECK(gradcheck(
            [](const Inputs& v) {
              return concat({v[0], v[1], v[2]});
            },
            {a, c, b}) < kTolerance);
  CHECK(gradcheck([](const Inputs& v) { return slice_channels(v[0], 1, 3); }, {a}) < kTolerance);
  const Variable joined = concat({Variable(a), Variable(c), Variable(b)});
  CHECK(test::max_difference(slice_channels(joined, 0, 4).data(), a) == 0);
  CHECK(test::max_difference(slice_channels(joined, 4, 5).data(), c) == 0);
  CHECK(test::max_difference(slice_channels(joined, 5, 9).data(), b) == 0);
  const Variable up = upsample_nearest(Variable(a), 2);
  CHECK(up.f32()[(3 * 6 + 5) * 4 + 2] == a.f32()[(1 * 3 + 2) * 4 + 2]);
  CHECK_THROWS_AS(add(Variable(a), Variable(c)), Error);
  CHECK_THROWS_AS(concat({Variable(a), up}), Error);
}

TEST_CASE("products, means and permutations of channels") {
  const Tensor a = random_tensor({2, 3, 2, 4}, 61), b = random_tensor({2, 3, 2, 4}, 62),
               gate = random_tensor({2, 1, 1, 4}, 63);
  const auto product = [](const Inputs& v) { return multiply(v[0], v[1]); };
  CHECK(gradcheck(product, {a, b}) < kTolerance);
  CHECK(gradcheck(product, {a, gate}) < kTolerance);
  CHECK(gradcheck([](const Inputs& v) { return global_average(v[0]); }, {a}) < kTolerance);
  const std::vector<int64_t> order{2, 0, 3, 1};
  CHECK(gradcheck([&](const Inputs& v) { return permute_channels(v[0], order); }, {a}) <
        kTolerance);
  const Tensor gated = multiply(Variable(a), Variable(gate)).data();
  const Tensor mean = global_average(Variable(a)).data();
  const Tensor permuted = permute_channels(Variable(a), order).data();
  for (int64_t n = 0; n < 2; ++n)
    for (int64_t c = 0; c < 4; ++c) {
      double sum = 0;
      for (int64_t i = 6 * n; i < 6 * n + 6; ++i) {
        sum += a.f32()[i * 4 + c];
        CHECK(gated.f32()[i * 4 + c] == a.f32()[i * 4 + c] * gate.f32()[n * 4 + c]);
        CHECK(permuted.f32()[i * 4 + c] == a.f32()[i * 4 + order[static_cast<size_t>(c)]]);
      }
      CHECK(mean.f32()[n * 4 + c] == Approx(sum / 6));
    }
  CHECK(test::error_of([&] {
          multiply(Variable(a), Variable(mean.reshape(Shape{2, 4})));
        }) ==
        "multiply: shapes [2,3,2,4] and [2,4], the second must be equal or one pixel per image");
  CHECK(test::error_of([&] {
          permute_channels(Variable(a), {0, 1, 1, 2});
        }) == "permute_channels: the order names channel 1 twice, or there is none such");
  CHECK(test::error_of([&] {
          permute_channels(Variable(a), {0, 1});
        }) == "permute_channels: an order of 2 for 4 channels");
}

TEST_CASE("average_pool2d is a convolution with equal weights") {
  const Tensor x = random_tensor({2, 5, 4, 3}, 31);
  const Tensor w = Tensor::full({3, 3, 3, 1}, 1.0f / 9);
  const Tensor y = average_pool2d(Variable(x), 3).data();
  CHECK(test::max_difference(y, reference_conv(x, w, {}, {1, 1, 3})) < 1e-6);
  CHECK(gradcheck([](const Inputs& v) { return average_pool2d(v[0], 3); }, {x}) < kTolerance);
  CHECK(test::error_of([&] { average_pool2d(Variable(x), 2); }) ==
        "average_pool2d: kernel 2 on input [2,5,4,3]");
}

TEST_CASE("branch_sum and the scaled add") {
  const Shape s{2, 3, 4, 5};
  const Inputs x{Variable(random_tensor(s, 32)), Variable(random_tensor(s, 33)),
                 Variable(random_tensor(s, 34))};
  const Inputs w{Variable(random_tensor({5}, 35)), Variable(random_tensor({5}, 36)),
                 Variable(random_tensor({5}, 37))};
  const Tensor y = branch_sum(x, w).data(), plain = branch_sum(x, {}).data();
  for (int64_t i = 0; i < y.numel(); ++i) {
    double sum = 0, all = 0;
    for (size_t b = 0; b < 3; ++b) {
      sum += static_cast<double>(w[b].f32()[i % 5]) * x[b].f32()[i];
      all += x[b].f32()[i];
    }
    CHECK(y.f32()[i] == Approx(sum).margin(1e-6));
    CHECK(plain.f32()[i] == Approx(all).margin(1e-6));
  }
  std::vector<Tensor> inputs;
  for (const auto& v : x) inputs.push_back(v.data());
  const auto sum = [](const Inputs& v) { return branch_sum({v[0], v[1], v[2]}, {}); };
  CHECK(gradcheck(sum, inputs) < kTolerance);
  for (const auto& v : w) inputs.push_back(v.data());
  const auto scaled = [](const Inputs& v) {
    return branch_sum({v[0], v[1], v[2]}, {v[3], v[4], v[5]});
  };
  CHECK(gradcheck(scaled, inputs) < kTolerance);
  const auto add_alpha = [](const Inputs& v) { return add(v[0], v[1], v[2]); };
  CHECK(gradcheck(add_alpha, {x[0].data(), x[1].data(), random_tensor({1}, 38)}) < kTolerance);
  CHECK(test::error_of([&] { branch_sum(x, {w[0]}); }) ==
        "branch_sum: 3 branches with 1 scales (2 to 4 branches)");
}

TEST_CASE("fake_quant rounds to the grid and lets the gradient through inside the range") {
  const Variable x(Tensor::from<float>(Shape{4}, std::vector<float>{0.3f, -0.6f, 2.0f, -0.004f}),
                   true);
  const Variable y = fake_quant(x, Tensor::full(Shape{1}, 1.27f), {});
  CHECK(y.f32()[0] == Approx(0.30).epsilon(1e-6));
  CHECK(y.f32()[1] == Approx(-0.60).epsilon(1e-6));
  CHECK(y.f32()[2] == Approx(1.27).epsilon(1e-6));
  CHECK(y.f32()[3] == 0);
  backward({{y, Tensor::full(Shape{4}, 2.0f)}});
  CHECK(x.grad().f32()[0] == 2);
  CHECK(x.grad().f32()[2] == 0);
  CHECK(x.grad().f32()[3] == 2);
}

TEST_CASE("a forward pass is recorded while a recorder lives") {
  const Variable x(random_tensor(Shape{1, 4, 4, 3}, 1)), w(random_tensor(Shape{2, 3, 3, 3}, 2));
  Variable y;
  {
    const trace::Recorder recorder;
    y = relu(conv2d(x, w, {}, {1, 1, 1}));
    REQUIRE(recorder.ops().size() == 2);
    CHECK(recorder.ops()[0].kind == "conv2d");
    CHECK(recorder.ops()[0].inputs[1].id() == w.id());
    CHECK(recorder.ops()[1].inputs[0].id() == recorder.ops()[0].output.id());
    CHECK(recorder.ops()[1].output.id() == y.id());
  }
  CHECK(!trace::active());
}
