// SPDX-License-Identifier: Apache-2.0
// The f32 convolutions on every instruction set that this processor has, by every algorithm.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <future>

#include "core/parallel.h"
#include "kernels/conv/conv_algorithms.h"
#include "kernels/conv/conv_reference.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::kernels;
using cpu::ConvAlgorithm;

namespace {

// Of the largest result.
double tolerance(ConvAlgorithm a) { return a == ConvAlgorithm::kWinograd4 ? 5e-6 : 3e-6; }

// One call with everything around it: slices of wider tensors, guarded by what lies beside them.
struct F32ConvProblem {
  ConvShape shape;
  Epilogue epilogue{};
  bool bias = false, residual = false, gain = false;
  int64_t margin = 0;  // channels of x, y and the residual beside those that take part

  std::vector<float> x{}, w{}, b{}, r{}, g{};
  std::vector<double> expected{};

  void fill() {
    const ConvShape& s = shape;
    x = test::random_floats(s.n * s.h * s.w * (s.ic + margin), 1);
    w = test::random_floats(s.w_numel(), 2);
    b = test::random_floats(s.oc, 3);
    g = test::random_floats(s.oc, 5);
    r = test::random_floats(s.n * s.oh() * s.ow() * (s.oc + margin), 4);
    expected = test::conv_reference(s, x.data(), s.ic + margin, w.data());
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto oc = static_cast<size_t>(s.oc);
      const size_t pixel = i / oc, o = i % oc;
      const float* residual_at =
          residual ? &r[pixel * (oc + static_cast<size_t>(margin)) + o] : nullptr;
      const double sum = expected[i] + (bias ? static_cast<double>(b[o]) : 0.0);
      expected[i] = static_cast<double>(
          test::finish_reference(epilogue, sum, residual_at, gain ? g[o] : 1.0f));
    }
  }

  // The result [pixels, oc + margin].
  std::vector<float> run(ConvAlgorithm algorithm) const {
    const ConvShape& s = shape;
    std::vector<float> y(r.size(), -77.0f);
    const cpu::ConvF32 conv(s, w.data(), algorithm);
    conv({.shape = s,
          .x = x.data(),
          .bias = bias ? b.data() : nullptr,
          .y = y.data(),
          .epilogue = epilogue,
          .residual = residual ? r.data() : nullptr,
          .x_pitch = s.ic + margin,
          .y_pitch = s.oc + margin,
          .residual_pitch = s.oc + margin,
          .gain = gain ? g.data() : nullptr});
    return y;
  }

  // The largest difference over the largest value; infinity where a neighbour was written.
  double error(const std::vector<float>& y) const {
    double largest = 1e-30, difference = 0;
    const auto oc = static_cast<size_t>(shape.oc), pitch = oc + static_cast<size_t>(margin);
    for (size_t i = 0; i < y.size(); ++i) {
      if (i % pitch >= oc) {
        if (y[i] != -77.0f) return INFINITY;
        continue;
      }
      const double e = expected[i / pitch * oc + i % pitch];
      largest = std::max(largest, std::abs(e));
      difference = std::max(difference, std::abs(static_cast<double>(y[i]) - e));
      if (std::isnan(y[i])) return INFINITY;
    }
    return difference / largest;
  }
};

void check_everywhere(F32ConvProblem& problem) {
  problem.fill();
  const ConvShape& s = problem.shape;
  CAPTURE(s.n, s.h, s.w, s.ic, s.oc, s.kh, s.kw, s.stride, s.pad, s.groups, problem.margin);
  test::each_algorithm(s, [&](ConvAlgorithm algorithm) {
    CHECK(problem.error(problem.run(algorithm)) < tolerance(algorithm));
  });
}

}  // namespace

TEST_CASE("f32 convolution: shapes, dense and as slices of wider tensors") {
  const ConvShape s =
      GENERATE(ConvShape{1, 1, 1, 1, 1, 1, 1, 1, 0}, ConvShape{1, 20, 20, 32, 48, 3, 3, 1, 1},
               ConvShape{2, 13, 17, 5, 19, 3, 3, 1, 1}, ConvShape{2, 13, 17, 5, 19, 3, 3, 2, 1},
               ConvShape{1, 33, 32, 3, 16, 6, 6, 2, 2}, ConvShape{1, 32, 30, 3, 24, 3, 3, 2, 1},
               ConvShape{3, 9, 15, 24, 40, 1, 1, 1, 0}, ConvShape{1, 9, 15, 8, 3, 1, 1, 2, 0},
               ConvShape{1, 3, 100, 2, 33, 3, 3, 1, 1}, ConvShape{1, 7, 9, 12, 18, 3, 3, 1, 1, 3},
               ConvShape{2, 5, 6, 10, 10, 3, 3, 1, 1, 10}, ConvShape{1, 8, 8, 6, 20, 1, 1, 1, 0, 2},
               ConvShape{1, 9, 20, 40, 40, 5, 5, 2, 2, 40}, ConvShape{1, 9, 7, 4, 8, 3, 3, 1, 1, 4},
               ConvShape{1, 6, 6, 16, 16, 3, 3, 1, 0}, ConvShape{1, 11, 4, 40, 7, 3, 3, 1, 2},
               ConvShape{1, 2, 2, 8, 8, 3, 3, 1, 1}, ConvShape{1, 12, 12, 4, 8, 1, 3, 1, 1},
               ConvShape{1, 5, 7, 300, 20, 3, 3, 1, 1}, ConvShape{1, 12, 10, 9, 31, 5, 5, 3, 2},
               ConvShape{1, 40, 40, 256, 16, 3, 3, 1, 1}, ConvShape{1, 4, 4, 20, 64, 1, 1, 1, 1});
  for (const int64_t margin : {0, 5}) {
    F32ConvProblem problem{.shape = s, .margin = margin};
    check_everywhere(problem);
  }
}

TEST_CASE("f32 convolution: every epilogue") {
  const auto activation =
      GENERATE(Activation::kIdentity, Activation::kReLU, Activation::kLeakyReLU, Activation::kSiLU,
               Activation::kHardswish, Activation::kSigmoid, Activation::kMish);
  const int residual = GENERATE(0, 1, 2);
  const ConvShape s =
      GENERATE(ConvShape{1, 9, 10, 6, 32, 3, 3, 1, 1}, ConvShape{1, 9, 10, 21, 21, 3, 3, 1, 1, 21},
               ConvShape{1, 9, 10, 6, 21, 3, 3, 1, 1}, ConvShape{1, 5, 7, 16, 37, 1, 1, 1, 0});
  F32ConvProblem problem{.shape = s,
                         .epilogue = {.activation = activation,
                                      .residual_scale = residual ? 0.7f : 1.0f,
                                      .residual_before_activation = residual == 1},
                         .bias = true,
                         .residual = residual > 0,
                         .margin = 3};
  for (const bool gain : {false, true}) {
    problem.gain = gain;
    check_everywhere(problem);
  }
}

TEST_CASE("f32 convolution: the residual may be the output; accumulate adds to it") {
  const ConvShape s{1, 10, 9, 8, 24, 3, 3, 1, 1};
  F32ConvProblem problem{.shape = s, .residual = true};
  problem.fill();
  test::each_algorithm(s, [&](ConvAlgorithm algorithm) {
    const cpu::ConvF32 conv(s, problem.w.data(), algorithm);
    std::vector<float> y = problem.r;
    conv({.shape = s, .x = problem.x.data(), .y = y.data(), .residual = y.data()});
    CHECK(problem.error(y) < tolerance(algorithm));
    y = problem.r;
    conv({.shape = s, .x = problem.x.data(), .y = y.data(), .accumulate = true});
    CHECK(problem.error(y) < tolerance(algorithm));
  });
}

TEST_CASE("f32 convolution: results depend neither on threads nor on the batch") {
  const ConvShape s =
      GENERATE(ConvShape{3, 20, 20, 64, 48, 3, 3, 1, 1}, ConvShape{3, 10, 10, 256, 64, 3, 3, 1, 1},
               ConvShape{3, 21, 20, 16, 32, 3, 3, 2, 1}, ConvShape{3, 21, 20, 16, 32, 1, 1, 1, 0});
  F32ConvProblem problem{.shape = s};
  problem.fill();
  for (const ConvAlgorithm algorithm : test::algorithms_for(s)) {
    CAPTURE(name_of(algorithm), s.kh, s.stride, s.ic);
    const int before = num_threads();
    set_num_threads(1);
    const auto alone = problem.run(algorithm);
    set_num_threads(3);
    const auto shared = problem.run(algorithm);
    set_num_threads(before);
    CHECK(alone == shared);
    ConvShape one = s;
    one.n = 1;
    std::vector<float> y(static_cast<size_t>(one.y_numel()));
    const cpu::ConvF32 conv(one, problem.w.data(), algorithm);
    conv({.shape = one, .x = problem.x.data() + 2 * one.x_numel(), .y = y.data()});
    CHECK(std::memcmp(y.data(), alone.data() + 2 * one.y_numel(), y.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("f32 convolution: exact sums are used on request") {
  const ConvShape s{1, 20, 20, 32, 32, 3, 3, 1, 1};
  const auto w = test::random_floats(s.w_numel(), 1);
  const bool everywhere = std::getenv("SEXTANT_EXACT") != nullptr;
  CHECK(cpu::ConvF32(s, w.data()).algorithm() ==
        (everywhere ? ConvAlgorithm::kDirect : ConvAlgorithm::kWinograd4));
  const auto chosen = [&] { return cpu::ConvF32(s, w.data()).algorithm(); };
  const cpu::ExactSums exact;
  CHECK(chosen() == ConvAlgorithm::kDirect);
  // Another thread's convolutions stay as they were: a result must not depend on who else computes.
  CHECK(std::async(std::launch::async, chosen).get() ==
        (everywhere ? ConvAlgorithm::kDirect : ConvAlgorithm::kWinograd4));
}

TEST_CASE("f32 convolution: refuses unsupported parameters") {
  const ConvShape s{1, 4, 4, 2, 2, 3, 3, 2, 1};
  const std::vector<float> w(static_cast<size_t>(s.w_numel())), x(64);
  std::vector<float> y(64);
  CHECK(
      test::error_of([&] { cpu::ConvF32(s, w.data(), ConvAlgorithm::kWinograd2); }) ==
      "make_winograd: a 3 x 3 kernel of stride 2 with m = 2, must be 3 x 3 of stride 1, m 2 or 4");
  const cpu::ConvF32 conv(s, w.data());
  ConvForward p{.shape = s, .x = x.data(), .y = y.data(), .dtype = DType::kF16};
  CHECK(test::error_of([&] { conv(p); }) == "ConvF32: dtype F16, must be F32 on the CPU");
  p.dtype = DType::kF32;
  p.shape.h = 5;
  CHECK(test::error_of([&] { conv(p); }) ==
        "ConvF32: called with another shape than it was made for");
  p.shape = s;
  p.accumulate = true;
  p.bias = w.data();
  CHECK(test::error_of([&] { conv(p); }) ==
        "ConvF32: accumulate takes no bias, residual or activation");
}
