// SPDX-License-Identifier: Apache-2.0
// Learned rounding of one layer.
#include <cmath>
#include <limits>

#include "deploy/graph/ranges.h"
#include "quant/ptq/rounding.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::quant;

namespace {

// Inputs whose columns hang together, so that rounding errors can cancel; a coarse grid.
RoundingProblem problem_of(int64_t rows, int64_t k, int64_t m, Activation act, float levels) {
  RoundingProblem p;
  const Tensor base = test::random_tensor({rows, 3}, 1, 0.0, 1.0);
  const Tensor mix = test::random_tensor({3, k}, 2, 0.0, 1.0);
  const Tensor noise = test::random_tensor({rows, k}, 3, 0.0, 0.2);
  p.inputs = Tensor({rows, k});
  p.weight = test::random_tensor({m, k}, 4);
  p.targets = Tensor({rows, m});
  p.activation = act;
  for (int64_t o = 0; o < m; ++o) {
    float amax = 0;
    for (int64_t i = 0; i < k; ++i) amax = std::max(amax, std::abs(p.weight.f32()[o * k + i]));
    p.scale.push_back(amax / levels);
    p.bias.push_back(0.1f * static_cast<float>(o) - 0.2f);
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < k; ++i) {
      float x = noise.f32()[r * k + i];
      for (int64_t j = 0; j < 3; ++j) x += base.f32()[r * 3 + j] * mix.f32()[j * k + i];
      p.inputs.f32()[r * k + i] = x;
    }
    for (int64_t o = 0; o < m; ++o) {
      float z = p.bias[static_cast<size_t>(o)];
      for (int64_t i = 0; i < k; ++i) z += p.inputs.f32()[r * k + i] * p.weight.f32()[o * k + i];
      p.targets.f32()[r * m + o] = z;
    }
  }
  return p;
}

double activated(Activation act, double z) {
  return act == Activation::kReLU ? std::max(z, 0.0) : z;
}

// Squared error of one output channel over rows [begin, end).
double error_of(const RoundingProblem& p, const float* w, int64_t o, int64_t begin, int64_t end) {
  const int64_t k = p.inputs.dim(1), m = p.targets.dim(1);
  double sum = 0;
  for (int64_t r = begin; r < end; ++r) {
    double z = p.bias[static_cast<size_t>(o)];
    for (int64_t i = 0; i < k; ++i) z += static_cast<double>(p.inputs.f32()[r * k + i]) * w[i];
    const double e = activated(p.activation, z) -
                     activated(p.activation, static_cast<double>(p.targets.f32()[r * m + o]));
    sum += e * e;
  }
  return sum;
}

}  // namespace

TEST_CASE("learned rounding comes near the best of all roundings", "[numbers]") {
  const Activation act = GENERATE(Activation::kIdentity, Activation::kReLU);
  const RoundingProblem p = problem_of(500, 10, 6, act, 7);
  const RoundingResult r = learn_rounding(p, {.iterations = 600, .batch = 100});
  double best_sum = 0, learned_sum = 0, nearest_sum = 0;
  for (int64_t o = 0; o < 6; ++o) {
    const float scale = p.scale[static_cast<size_t>(o)];
    const float* w = p.weight.f32() + o * 10;
    std::vector<float> candidate(10), nearest(10);
    for (size_t i = 0; i < 10; ++i) nearest[i] = std::nearbyint(w[i] / scale) * scale;
    double best = std::numeric_limits<double>::infinity();
    for (int up = 0; up < 1024; ++up) {
      for (size_t i = 0; i < 10; ++i)
        candidate[i] =
            std::clamp(std::floor(w[i] / scale) + static_cast<float>(up >> i & 1), -127.f, 127.f) *
            scale;
      best = std::min(best, error_of(p, candidate.data(), o, 0, 400));
    }
    best_sum += best;
    nearest_sum += error_of(p, nearest.data(), o, 0, 400);
    learned_sum += error_of(p, r.weight.f32() + o * 10, o, 0, 400);
  }
  CAPTURE(nearest_sum, learned_sum, best_sum);
  CHECK(nearest_sum > 4 * best_sum);
  CHECK(learned_sum >= best_sum);
  CHECK(learned_sum < nearest_sum / 8);
  CHECK(r.moved > 0);
}

TEST_CASE("learned weights lie on the grid and no channel is worse on the rows held out") {
  const RoundingProblem p = problem_of(400, 40, 12, Activation::kReLU, 127);
  const RoundingConfig config{.iterations = 200, .batch = 64};
  const RoundingResult r = learn_rounding(p, config);
  const std::vector<int8_t> q = deploy::quantize_weight(r.weight, p.scale);
  int64_t moved = 0;
  double nearest = 0, learned = 0;
  for (int64_t o = 0; o < 12; ++o) {
    const float scale = p.scale[static_cast<size_t>(o)];
    std::vector<float> plain(40);
    for (int64_t i = 0; i < 40; ++i) {
      const size_t at = static_cast<size_t>(o * 40 + i);
      CHECK(r.weight.f32()[at] == static_cast<float>(q[at]) * scale);
      const float x = p.weight.f32()[at] * (1.0f / scale);
      CHECK(std::abs(static_cast<float>(q[at]) - x) <= 1.0f);  // up or down, no farther
      plain[static_cast<size_t>(i)] = std::nearbyint(x) * scale;
      moved += static_cast<float>(q[at]) != std::nearbyint(x);
    }
    const double before = error_of(p, plain.data(), o, 320, 400);
    const double after = error_of(p, r.weight.f32() + o * 40, o, 320, 400);
    CHECK(after <= before * (1 + 1e-6));
    nearest += before;
    learned += after;
  }
  CHECK(moved == r.moved);
  CHECK(r.nearest == Approx(nearest).epsilon(1e-3));
  CHECK(r.learned == Approx(learned).epsilon(1e-3));
  CHECK(learned < 0.5 * nearest);
  const RoundingResult again = learn_rounding(p, config);
  CHECK(test::max_difference(again.weight, r.weight) == 0.0);
}

TEST_CASE("learned rounding refuses shapes that do not fit") {
  RoundingProblem p = problem_of(20, 4, 2, Activation::kIdentity, 7);
  p.bias.pop_back();
  CHECK(test::error_of([&] { learn_rounding(p); }).starts_with("rounding: inputs [20,4]"));
  CHECK(rows_for({.rows = 100, .max_rows = 500}, 20) == 100);
  CHECK(rows_for({.rows = 100, .max_rows = 500}, 200) == 400);
  CHECK(rows_for({.rows = 100, .max_rows = 500}, 2000) == 500);
}
