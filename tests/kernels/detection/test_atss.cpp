// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <numeric>

#include "core/parallel.h"
#include "kernels/backend.h"
#include "kernels/detection/assign_problem.h"
#include "support/fixture_folder.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

struct AtssProblem : Problem {
  AtssAssign p;

  explicit AtssProblem(Problem problem) : Problem(std::move(problem)) {
    p.levels = static_cast<int>(levels.size());
    for (int l = 0; l < p.levels; ++l) p.level_anchors[l] = levels[l].height * levels[l].width;
  }
  void run() {
    link(p);
    p.anchor_boxes = squares.data();
    backend(Device::kCpu).atss_assign(p);
  }
};

// The definition, box by box.
void plain_atss_assign(const AtssProblem& q, std::vector<int32_t>& assigned,
                       std::vector<double>& target) {
  assigned.assign(q.batch * q.anchors, -1);
  target.assign(q.batch * q.anchors, 0.0);
  const auto overlap = [&](int64_t n, int64_t g, int64_t a) {
    return plain_iou(q.gt(n, g), &q.squares[4 * a]);  // no union is small here
  };
  for (int64_t n = 0; n < q.batch; ++n) {
    std::vector<std::vector<int64_t>> boxes_of(q.anchors);
    for (int64_t g = 0; g < q.boxes(n); ++g) {
      const double* box = q.gt(n, g);
      std::vector<int64_t> candidates;
      int64_t first = 0;
      for (int l = 0; l < q.p.levels; ++l) {
        std::vector<int64_t> order(q.p.level_anchors[l]);
        std::iota(order.begin(), order.end(), first);
        first += q.p.level_anchors[l];
        const auto distance = [&](int64_t a) {
          return std::hypot(q.points[2 * a] - (box[0] + box[2]) / 2,
                            q.points[2 * a + 1] - (box[1] + box[3]) / 2);
        };
        std::stable_sort(order.begin(), order.end(),
                         [&](int64_t x, int64_t y) { return distance(x) < distance(y); });
        order.resize(std::min<size_t>(order.size(), q.p.topk));
        candidates.insert(candidates.end(), order.begin(), order.end());
      }
      double sum = 0, squares = 0;
      for (const int64_t a : candidates) sum += overlap(n, g, a);
      const auto count = static_cast<double>(candidates.size());
      for (const int64_t a : candidates) squares += std::pow(overlap(n, g, a) - sum / count, 2);
      const double threshold = sum / count + (count > 1 ? std::sqrt(squares / (count - 1)) : 0.0);
      for (const int64_t a : candidates)
        if (overlap(n, g, a) > threshold && plain_margin(&q.points[2 * a], box) > 1e-9)
          boxes_of[a].push_back(g);
    }
    for (int64_t a = 0; a < q.anchors; ++a) {
      if (boxes_of[a].empty()) continue;
      int64_t chosen = boxes_of[a][0];
      if (boxes_of[a].size() > 1) {
        chosen = 0;
        for (int64_t g = 1; g < q.boxes(n); ++g)
          if (overlap(n, g, a) > overlap(n, chosen, a)) chosen = g;
      }
      assigned[n * q.anchors + a] = static_cast<int32_t>(chosen);
      target[n * q.anchors + a] = plain_iou(q.gt(n, chosen), q.pred(n, a));
    }
  }
}

}  // namespace

TEST_CASE("adaptive training sample selection matches the official assigner") {
  for (const std::string& name : fixtures_of(kAssignerFixtures, "atss_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    AtssProblem q(fixture_problem(f));
    q.squares = doubles(f.at("input.anchors"));
    const Tensor& counts = f.at("input.n_level");
    q.p.levels = static_cast<int>(counts.numel());
    for (int l = 0; l < q.p.levels; ++l) q.p.level_anchors[l] = counts.data<int64_t>()[l];
    q.p.topk = std::stoll(f.meta("topk"));
    q.run();
    require_fixture_result(q, f);
  }
}

TEST_CASE("adaptive training sample selection equals its plain definition") {
  // The last four: levels with fewer anchors than topk, a single anchor, no boxes, more than 100.
  const std::vector<ProblemSize> sizes = {{{{12, 12, 8.0}, {6, 6, 16.0}, {3, 3, 32.0}}, 3, 4, 0, 9},
                                          {{{6, 5, 8.0}, {2, 3, 16.0}, {1, 1, 32.0}}, 3, 2, 1, 6},
                                          {{{1, 1, 32.0}}, 2, 2, 1, 3},
                                          {{{6, 6, 8.0}, {3, 3, 16.0}}, 2, 2, 0, 0},
                                          {{{16, 16, 8.0}, {8, 8, 16.0}}, 2, 5, 101, 130}};
  for (size_t s = 0; s < sizes.size(); ++s) {
    CAPTURE(s);
    int64_t positives = 0;
    for (uint64_t seed = 0; seed < 12; ++seed) {
      AtssProblem q(random_problem(seed, sizes[s]));
      q.run();
      std::vector<int32_t> assigned;
      std::vector<double> target;
      plain_atss_assign(q, assigned, target);
      REQUIRE(q.assigned == assigned);
      for (size_t i = 0; i < target.size(); ++i) {
        REQUIRE(std::abs(q.target[i] - target[i]) < 1e-12);
        positives += assigned[i] >= 0;
      }
    }
    REQUIRE((positives > 20) == (s != 2 && s != 3));
  }
}

TEST_CASE("adaptive training sample selection prefers the lower index and the first box at ties") {
  // Two equal boxes around the corner that four cells share.
  AtssProblem q(random_problem(1, {{{6, 6, 8.0}}, 1, 1, 0, 0}));
  q.gt_boxes = {8, 8, 40, 40, 8, 8, 40, 40};
  q.gt_classes = {0, 0};
  q.gt_begin = {0, 2};
  q.p.topk = 9;  // the four around the centre, then five of the eight next ones
  q.run();
  int64_t positives = 0;
  for (int64_t a = 0; a < q.anchors; ++a) {
    REQUIRE(q.assigned[a] <= 0);
    positives += q.assigned[a] == 0;
  }
  REQUIRE(positives == 4);
}

TEST_CASE("adaptive training sample selection survives NaN predictions") {
  AtssProblem q(random_problem(6, {{{8, 8, 8.0}}, 2, 2, 3, 6}));
  for (size_t i = 0; i < q.pred_boxes.size(); i += 3) q.pred_boxes[i] = std::nan("");
  q.run();
  for (const double t : q.target) REQUIRE(std::isfinite(t));
}

TEST_CASE("adaptive training sample selection does not depend on the number of threads") {
  AtssProblem q(random_problem(7, {{{8, 8, 8.0}, {4, 4, 16.0}}, 5, 2, 3, 9}));
  const int before = num_threads();
  set_num_threads(1);
  q.run();
  const auto assigned = q.assigned;
  const auto target = q.target;
  set_num_threads(3);
  q.run();
  set_num_threads(before);
  REQUIRE(q.assigned == assigned);
  REQUIRE(q.target == target);
}
