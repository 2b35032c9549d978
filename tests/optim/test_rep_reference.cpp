// SPDX-License-Identifier: Apache-2.0
// RepOptimizer's equivalence in double, with a separate convolution and update rules: tests only
// the mathematics and the multipliers, and which claims hold for AdamW.
#include <cmath>

#include "optim/rep_handler.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::optim;
using test::doubles;

namespace {

using Values = std::vector<double>;

Values random_values(int64_t n, uint64_t seed) {
  Rng rng(seed);
  Values v(static_cast<size_t>(n));
  for (double& x : v) x = rng.uniform(-1, 1);
  return v;
}
double largest(const Values& v) {
  double m = 0;
  for (const double x : v) m = std::max(m, std::abs(x));
  return m;
}
double difference(const Values& a, const Values& b) {
  double m = 0;
  for (size_t i = 0; i < a.size(); ++i) m = std::max(m, std::abs(a[i] - b[i]));
  return m / largest(b);
}

// x [n,size,size,in], weight [out,kernel,kernel,in], padding kernel / 2.
struct Conv {
  int64_t n, size, in, out, kernel, stride;
  int64_t out_size() const { return (size - 1) / stride + 1; }

  // f(index in x, in weight, in y) for every product.
  template <class F>
  void each(const F& f) const {
    const int64_t os = out_size();
    for (int64_t b = 0; b < n; ++b)
      for (int64_t y = 0; y < os; ++y)
        for (int64_t x = 0; x < os; ++x)
          for (int64_t o = 0; o < out; ++o)
            for (int64_t v = 0; v < kernel; ++v)
              for (int64_t u = 0; u < kernel; ++u) {
                const int64_t iy = y * stride + v - kernel / 2, ix = x * stride + u - kernel / 2;
                if (iy < 0 || ix < 0 || iy >= size || ix >= size) continue;
                for (int64_t i = 0; i < in; ++i)
                  f(static_cast<size_t>(((b * size + iy) * size + ix) * in + i),
                    static_cast<size_t>(((o * kernel + v) * kernel + u) * in + i),
                    static_cast<size_t>(((b * os + y) * os + x) * out + o));
              }
  }
  size_t numel_y() const { return static_cast<size_t>(n * out_size() * out_size() * out); }
  size_t numel_w() const { return static_cast<size_t>(out * kernel * kernel * in); }
};

// A parameter with its optimizer state.
struct Slot {
  Values p, first, second;
  explicit Slot(Values values) : p(std::move(values)), first(p.size()), second(p.size()) {}
};

struct Rule {
  bool adam = false;
  double eps = 1e-8;
  void step(Slot& s, const Values& grad, const Values& factor, int t) const {
    for (size_t k = 0; k < s.p.size(); ++k) {
      const double f = factor.empty() ? 1.0 : factor[k];
      if (!adam) {
        const double g = f * grad[k] + 5e-4 * s.p[k];
        s.first[k] = 0.9 * s.first[k] + g;
        s.p[k] -= 0.02 * (g + 0.9 * s.first[k]);
        continue;
      }
      const double g = f * grad[k];
      s.first[k] = 0.9 * s.first[k] + 0.1 * g;
      s.second[k] = 0.999 * s.second[k] + 0.001 * g * g;
      const double mean = s.first[k] / (1 - std::pow(0.9, t));
      const double root = std::sqrt(s.second[k] / (1 - std::pow(0.999, t)));
      s.p[k] = (1 - 1e-3 * 0.05) * s.p[k] - f * 1e-3 * mean / (root + eps);
    }
  }
};

struct DoubleTrial {
  int64_t in, out, stride;
  std::vector<int64_t> kernels;  // of the branches, the target's first
  bool identity;
  Rule rule;
  double sign = 1;          // of the second branch's scales
  double wrong_factor = 1;  // of one multiplier
};

// Sixteenths: exact in float, and so are their squares and sums.
Tensor sixteenths(int64_t channels, uint64_t seed, double sign) {
  Rng rng(seed);
  Tensor t(Shape{channels});
  for (float& v : t.span<float>())
    v = static_cast<float>(sign * static_cast<double>(4 + rng.below(20)) / 16);
  return t;
}

// y = tanh of the block, loss = half the squared distance to a constant.
Values output_gradient(const Values& linear, const Values& goal) {
  Values g(linear.size());
  for (size_t i = 0; i < g.size(); ++i) {
    const double y = std::tanh(linear[i]);
    g[i] = (y - goal[i]) * (1 - y * y) / 32;
  }
  return g;
}

// The largest difference between the branches' sum and the operator, weights and outputs, over the
// steps, relative to the largest value.
double double_divergence(const DoubleTrial& t) {
  const int64_t n = 2, size = 6, kernel = t.kernels[0];
  const Conv target{n, size, t.in, t.out, kernel, t.stride};
  std::vector<Conv> convs;
  std::vector<Slot> branches;
  std::vector<Values> scales;
  RepHandler handler{"w", 1, {}};
  for (size_t b = 0; b < t.kernels.size(); ++b) {
    convs.push_back({n, size, t.in, t.out, t.kernels[b], t.stride});
    branches.emplace_back(random_values(static_cast<int64_t>(convs[b].numel_w()), 20 + b));
    const Tensor scale = sixteenths(t.out, 40 + b, b == 1 ? t.sign : 1);
    scales.push_back(doubles(scale));
    handler.branches.push_back(conv_branch(t.kernels[b], scale));
  }
  Slot diagonal{Values(t.identity ? static_cast<size_t>(t.out) : 0, 0.75)};
  if (t.identity) handler.branches.push_back(identity_branch(Tensor::full({t.out}, 0.75f)));
  const auto channel = [&](size_t i) { return i % static_cast<size_t>(t.out); };
  const auto sum_of_branches = [&] {
    Values w(target.numel_w());
    const int64_t row = kernel * t.in;
    for (size_t b = 0; b < branches.size(); ++b) {
      const int64_t k = t.kernels[b], edge = (kernel - k) / 2;
      for (int64_t o = 0; o < t.out; ++o)
        for (int64_t y = 0; y < k; ++y)
          for (int64_t j = 0; j < k * t.in; ++j)
            w[static_cast<size_t>((o * kernel + edge + y) * row + edge * t.in + j)] +=
                scales[b][static_cast<size_t>(o)] *
                branches[b].p[static_cast<size_t>((o * k + y) * k * t.in + j)];
    }
    for (size_t o = 0; o < diagonal.p.size(); ++o) {
      const auto i = static_cast<int64_t>(o);
      w[static_cast<size_t>((i * kernel + kernel / 2) * row + kernel / 2 * t.in + i)] +=
          diagonal.p[o];
    }
    return w;
  };
  Slot single{sum_of_branches()};
  const RepRule power = t.rule.adam ? RepRule::kAdam : RepRule::kSgd;
  Values factors = doubles(multipliers(handler, {t.out, kernel, kernel, t.in}, power));
  factors[3] *= t.wrong_factor;

  double worst = 0;
  constexpr int kSteps = 50;
  const Values goal = random_values(static_cast<int64_t>(target.numel_y()), 7);
  for (int step = 1; step <= kSteps; ++step) {
    const Values x = random_values(n * size * size * t.in, 1000 + static_cast<uint64_t>(step));
    Values y(target.numel_y()), z(target.numel_y());
    for (size_t b = 0; b < convs.size(); ++b)
      convs[b].each([&](size_t i, size_t w, size_t o) {
        y[o] += scales[b][channel(o)] * branches[b].p[w] * x[i];
      });
    if (t.identity)
      for (size_t i = 0; i < y.size(); ++i) y[i] += diagonal.p[channel(i)] * x[i];
    target.each([&](size_t i, size_t w, size_t o) { z[o] += single.p[w] * x[i]; });
    worst = std::max(worst, difference(z, y));

    const Values dy = output_gradient(y, goal), dz = output_gradient(z, goal);
    for (size_t b = 0; b < convs.size(); ++b) {
      Values grad(convs[b].numel_w());
      convs[b].each(
          [&](size_t i, size_t w, size_t o) { grad[w] += scales[b][channel(o)] * dy[o] * x[i]; });
      t.rule.step(branches[b], grad, {}, step);
    }
    Values grad(diagonal.p.size());
    if (t.identity)
      for (size_t i = 0; i < dy.size(); ++i) grad[channel(i)] += dy[i] * x[i];
    t.rule.step(diagonal, grad, {}, step);
    grad.assign(target.numel_w(), 0.0);
    target.each([&](size_t i, size_t w, size_t o) { grad[w] += dz[o] * x[i]; });
    t.rule.step(single, grad, factors, step);
    worst = std::max(worst, difference(single.p, sum_of_branches()));
  }
  return worst;
}

// Also shows that a wrong multiplier would be noticed.
void check_equal(DoubleTrial t, double tolerance) {
  const double same = double_divergence(t);
  t.wrong_factor = 1.1;
  const double other = double_divergence(t);
  INFO("kernel " << t.kernels[0] << ", stride " << t.stride << ", identity " << t.identity << ": "
                 << same << "; with a multiplier 10% wrong " << other);
  CHECK(same < tolerance);
  CHECK(other > 1e-4);
}

}  // namespace

TEST_CASE("SGD: branches and single operator are one training, in double") {
  const double sign = GENERATE(1.0, -1.0);
  check_equal({4, 4, 1, {3, 1}, true, {}, sign}, 1e-12);
  check_equal({3, 5, 1, {3, 1}, false, {}, sign}, 1e-12);
  check_equal({3, 5, 2, {3, 1}, false, {}, sign}, 1e-12);
  check_equal({4, 4, 1, {5, 3, 1}, true, {}, sign}, 1e-12);
  check_equal({4, 4, 1, {3, 3}, false, {}, sign}, 1e-12);
}

TEST_CASE("AdamW: one scaled branch is the same training whatever eps is, in double") {
  check_equal({3, 5, 1, {3}, false, {true, 1e-2}}, 1e-12);
  check_equal({3, 5, 2, {5}, false, {true, 1e-8}}, 1e-12);
}

TEST_CASE(
    "AdamW: several branches with positive scales are the same training up to eps, in double") {
  const DoubleTrial identity{4, 4, 1, {3, 1}, true, {true, 1e-30}};
  const DoubleTrial plain{3, 5, 2, {5, 3, 1}, false, {true, 1e-30}};
  check_equal(identity, 1e-9);
  check_equal(plain, 1e-9);
  // With PyTorch's eps the difference is in its order; with a large one it is no longer the same.
  for (DoubleTrial t : {identity, plain}) {
    t.rule.eps = 1e-8;
    CHECK(double_divergence(t) < 1e-5);
    t.rule.eps = 1e-2;
    CHECK(double_divergence(t) > 1e-4);
  }
}

TEST_CASE("AdamW: scales of two signs in one element are not the same training") {
  CHECK(double_divergence({4, 4, 1, {3, 1}, true, {true, 1e-30}, -1}) > 1e-3);
}
