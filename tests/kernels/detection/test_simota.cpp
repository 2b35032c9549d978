// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <numeric>

#include "core/parallel.h"
#include "kernels/backend.h"
#include "kernels/detection/assign_problem.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

struct SimOtaProblem : Problem {
  SimOtaAssign p;
  std::vector<float> objectness;

  // Scores become logits.
  explicit SimOtaProblem(Problem problem) : Problem(std::move(problem)) {
    for (float& s : scores) s = std::log(s / (1.0f - s));
    p.classes = classes;
  }
  void add_objectness(uint64_t seed) {
    const Tensor t = random_tensor({batch * anchors}, seed, -3, 3);
    objectness.assign(t.f32(), t.f32() + t.numel());
    p.has_objectness = true;
  }
  void run() {
    link(p);
    p.strides = strides.data();
    p.scores[0] = score_block();
    p.objectness[0] = {objectness.data(), anchors, anchors, 1};
    backend(Device::kCpu).simota_assign(p);
  }
  bool in_box(int64_t n, int64_t g, int64_t a) const {
    return plain_margin(&points[2 * a], gt(n, g)) > 0;
  }
  bool in_centre(int64_t n, int64_t g, int64_t a) const {
    const double* b = gt(n, g);
    const double x = (b[0] + b[2]) / 2, y = (b[1] + b[3]) / 2, r = p.radius * strides[a];
    const double square[4] = {x - r, y - r, x + r, y + r};
    return plain_margin(&points[2 * a], square) > 0;
  }
};

// The definition over dense [boxes, candidates] matrices.
void plain_simota_assign(const SimOtaProblem& q, std::vector<int32_t>& assigned,
                         std::vector<double>& target) {
  assigned.assign(q.batch * q.anchors, -1);
  target.assign(q.batch * q.anchors, 0.0);
  for (int64_t n = 0; n < q.batch; ++n) {
    const int64_t boxes = q.boxes(n);
    std::vector<int64_t> candidates;
    for (int64_t a = 0; a < q.anchors; ++a) {
      bool any = false;
      for (int64_t g = 0; g < boxes; ++g) any = any || q.in_box(n, g, a) || q.in_centre(n, g, a);
      if (any) candidates.push_back(a);
    }
    const size_t count = candidates.size();
    using Matrix = std::vector<std::vector<double>>;
    Matrix cost(boxes, std::vector<double>(count)), overlap = cost, taken = cost;
    for (int64_t g = 0; g < boxes; ++g) {
      const int32_t own = q.gt_classes[q.gt_begin[n] + g];
      for (size_t i = 0; i < count; ++i) {
        const int64_t a = candidates[i];
        for (int64_t c = 0; c < q.classes; ++c) {
          const auto logistic = [](double z) { return 1 / (1 + std::exp(-z)); };
          double p = logistic(q.scores[(n * q.anchors + a) * q.classes + c]);
          if (q.p.has_objectness) p *= logistic(q.objectness[n * q.anchors + a]);
          cost[g][i] -= std::log(c == own ? std::sqrt(p) : 1 - std::sqrt(p));
        }
        overlap[g][i] = plain_iou(q.gt(n, g), q.pred(n, a));
        cost[g][i] -= q.p.iou_weight * std::log(overlap[g][i] + 1e-8);
        if (!q.in_box(n, g, a) || !q.in_centre(n, g, a)) cost[g][i] += 1e5;
      }
      std::vector<double> best = overlap[g];
      std::sort(best.rbegin(), best.rend());
      best.resize(std::min<size_t>(best.size(), q.p.dynamic_k));
      const double sum = std::accumulate(best.begin(), best.end(), 0.0);
      std::vector<size_t> order(count);
      std::iota(order.begin(), order.end(), size_t{0});
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t x, size_t y) { return cost[g][x] < cost[g][y]; });
      for (size_t i = 0; i < std::min(count, static_cast<size_t>(std::max(sum, 1.0))); ++i)
        taken[g][order[i]] = 1;
    }
    for (size_t i = 0; i < count; ++i) {
      int64_t claims = 0, chosen = -1, cheapest = 0;
      for (int64_t g = 0; g < boxes; ++g) {
        if (taken[g][i] > 0) ++claims, chosen = g;
        if (cost[g][i] < cost[cheapest][i]) cheapest = g;
      }
      if (claims == 0) continue;
      if (claims > 1) chosen = cheapest;
      assigned[n * q.anchors + candidates[i]] = static_cast<int32_t>(chosen);
      target[n * q.anchors + candidates[i]] = overlap[chosen][i];
    }
  }
}

}  // namespace

TEST_CASE("simota equals its plain definition") {
  // Among them: levels of few anchors, a single anchor, no boxes, more than 100 boxes.
  const std::vector<ProblemSize> sizes = {{{{12, 12, 8.0}, {6, 6, 16.0}, {3, 3, 32.0}}, 3, 4, 0, 9},
                                          {{{6, 5, 8.0}, {2, 3, 16.0}, {1, 1, 32.0}}, 3, 2, 1, 6},
                                          {{{1, 1, 32.0}}, 2, 2, 1, 3},
                                          {{{6, 6, 8.0}, {3, 3, 16.0}}, 2, 2, 0, 0},
                                          {{{16, 16, 8.0}, {8, 8, 16.0}}, 2, 5, 101, 130}};
  for (const bool objectness : {false, true})
    for (size_t s = 0; s < sizes.size(); ++s) {
      CAPTURE(objectness, s);
      int64_t positives = 0;
      for (uint64_t seed = 0; seed < 8; ++seed) {
        SimOtaProblem q(random_problem(seed, sizes[s]));
        if (objectness) q.add_objectness(seed);
        q.run();
        std::vector<int32_t> assigned;
        std::vector<double> target;
        plain_simota_assign(q, assigned, target);
        REQUIRE(q.assigned == assigned);
        for (size_t i = 0; i < target.size(); ++i) {
          REQUIRE(std::abs(q.target[i] - target[i]) < 1e-12);
          positives += assigned[i] >= 0;
        }
      }
      REQUIRE((positives > 5) == (sizes[s].most_boxes > 0));
    }
}

TEST_CASE("simota takes as many anchors as the overlaps suggest") {
  SimOtaProblem q(random_problem(3, {{{8, 8, 8.0}}, 1, 1, 0, 0}));
  q.gt_boxes = {16, 16, 48, 48};
  q.gt_classes = {0};
  q.gt_begin = {0, 1};
  std::fill(q.scores.begin(), q.scores.end(), 0.0f);
  // Every prediction overlaps the box by a quarter: ten of them make 2.5.
  for (int64_t a = 0; a < 64; ++a)
    for (int k = 0; k < 4; ++k) q.pred_boxes[4 * a + k] = k < 2 ? 16 : 32;
  q.run();
  // All costs are equal within the box's middle; the lowest indices win there.
  std::vector<int64_t> found;
  for (int64_t a = 0; a < 64; ++a)
    if (q.assigned[a] == 0) found.push_back(a);
  REQUIRE(found == std::vector<int64_t>{18, 19});
  REQUIRE(q.target[18] == Approx(0.25));
}

TEST_CASE("simota reads predicted boxes at candidates only") {
  SimOtaProblem q(random_problem(4, {{{10, 10, 8.0}, {5, 5, 16.0}}, 3, 3, 1, 2}));
  q.run();
  const auto assigned = q.assigned;
  const auto target = q.target;
  std::vector<uint8_t> candidate(q.batch * q.anchors, 7);
  backend(Device::kCpu).simota_candidates({q.p, candidate.data()});
  for (int64_t n = 0; n < q.batch; ++n)
    for (int64_t a = 0; a < q.anchors; ++a) {
      bool any = false;
      for (int64_t g = 0; g < q.boxes(n); ++g)
        any = any || q.in_box(n, g, a) || q.in_centre(n, g, a);
      REQUIRE(candidate[n * q.anchors + a] == (any ? 1 : 0));
      if (!any) std::fill_n(&q.pred_boxes[4 * (n * q.anchors + a)], 4, std::nan(""));
    }
  q.run();
  REQUIRE(q.assigned == assigned);
  REQUIRE(q.target == target);
}

TEST_CASE("simota survives certain and NaN predictions") {
  SimOtaProblem q(random_problem(6, {{{8, 8, 8.0}}, 2, 3, 2, 6}));
  for (size_t i = 0; i < q.scores.size(); ++i)
    q.scores[i] = i % 3 == 0 ? 200.0f : (i % 3 == 1 ? -200.0f : 1e4f);
  for (size_t i = 0; i < q.pred_boxes.size(); i += 7) q.pred_boxes[i] = std::nan("");
  for (size_t i = 0; i < q.scores.size(); i += 11) q.scores[i] = std::nanf("");
  q.run();
  for (int64_t i = 0; i < q.batch * q.anchors; ++i) {
    REQUIRE(std::isfinite(q.target[i]));
    REQUIRE(q.assigned[i] < q.boxes(i / q.anchors));
  }
}

TEST_CASE("simota does not depend on the number of threads") {
  SimOtaProblem q(random_problem(7, {{{8, 8, 8.0}, {4, 4, 16.0}}, 5, 2, 3, 9}));
  const int before = num_threads();
  set_num_threads(1);
  q.run();
  const auto assigned = q.assigned;
  set_num_threads(3);
  q.run();
  set_num_threads(before);
  REQUIRE(q.assigned == assigned);
}
