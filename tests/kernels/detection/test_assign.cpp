// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/backend.h"
#include "kernels/detection/assign_problem.h"
#include "support/fixture_folder.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

struct TalProblem : Problem {
  TaskAlignedAssign p;

  explicit TalProblem(Problem problem) : Problem(std::move(problem)) {}
  void run() {
    link(p);
    p.blocks = 1;
    p.scores[0] = score_block();
    p.classes = classes;
    backend(Device::kCpu).task_aligned_assign(p);
  }
};

TalProblem random_problem(uint64_t seed, int64_t grid, int64_t batch, int64_t classes,
                          int max_boxes) {
  return TalProblem(
      test::random_problem(seed, {{{grid, grid, 1.0}}, batch, classes, 0, max_boxes}));
}

// The definition, written down over dense [boxes, anchors] matrices.
void plain_task_aligned_assign(const TalProblem& q, std::vector<int32_t>& assigned,
                               std::vector<double>& target) {
  const TalProblem& p = q;
  assigned.assign(p.batch * p.anchors, -1);
  target.assign(p.batch * p.anchors, 0.0);
  for (int64_t n = 0; n < p.batch; ++n) {
    const int64_t first = q.gt_begin[n];
    const int64_t boxes = q.gt_begin[n + 1] - first;
    using Matrix = std::vector<std::vector<double>>;
    Matrix align(boxes, std::vector<double>(p.anchors)), overlap = align, positive = align;
    for (int64_t g = 0; g < boxes; ++g) {
      std::vector<double> masked(p.anchors);
      for (int64_t a = 0; a < p.anchors; ++a) {
        const double* box = &q.gt_boxes[4 * (first + g)];
        const double* pt = &q.points[2 * a];
        overlap[g][a] = plain_iou(box, &q.pred_boxes[4 * (n * p.anchors + a)]);
        align[g][a] = static_cast<double>(
                          q.scores[(n * p.anchors + a) * p.classes + q.gt_classes[first + g]]) *
                      std::pow(overlap[g][a], 6.0);
        positive[g][a] = plain_margin(pt, box) > 1e-9;
        masked[a] = align[g][a] * positive[g][a];
      }
      std::vector<int64_t> order(p.anchors);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int64_t x, int64_t y) { return masked[x] > masked[y]; });
      for (int64_t i = std::min(q.p.topk, p.anchors); i < p.anchors; ++i) positive[g][order[i]] = 0;
    }
    std::vector<double> best_align(boxes), best_overlap(boxes);
    for (int64_t a = 0; a < p.anchors; ++a) {
      int64_t count = 0, closest = 0, chosen = -1;
      for (int64_t g = 0; g < boxes; ++g) {
        if (positive[g][a] > 0) ++count, chosen = g;
        if (overlap[g][a] > overlap[closest][a]) closest = g;
      }
      if (count == 0) continue;
      if (count > 1) chosen = closest;
      assigned[n * p.anchors + a] = static_cast<int32_t>(chosen);
      best_align[chosen] = std::max(best_align[chosen], align[chosen][a]);
      best_overlap[chosen] = std::max(best_overlap[chosen], overlap[chosen][a]);
    }
    for (int64_t a = 0; a < p.anchors; ++a) {
      const int32_t g = assigned[n * p.anchors + a];
      if (g >= 0)
        target[n * p.anchors + a] = align[g][a] * best_overlap[g] / (best_align[g] + 1e-9);
    }
  }
}

AnchorGrid grid_of(const SafeTensors& f, bool anchor_based) {
  AnchorGrid grid;
  const auto strides = Json::parse(f.meta("strides")).get<std::vector<float>>();
  const Tensor& shapes = f.at("input.feat_shapes");
  grid.levels = static_cast<int>(shapes.dim(0));
  for (int l = 0; l < grid.levels; ++l)
    grid.level[l] = {shapes.data<int64_t>()[2 * l], shapes.data<int64_t>()[2 * l + 1], strides[l]};
  grid.repeats = anchor_based ? 3 : 1;
  grid.cell_offset = std::stof(f.meta("grid_cell_offset"));
  return grid;
}

}  // namespace

TEST_CASE("anchors match the official generator") {
  for (const std::string& name : fixtures_of(kAssignerFixtures, "anchors_")) {
    SEXTANT_REQUIRE_FIXTURE(f, name);
    for (const std::string mode : {"af", "ab"}) {
      GenerateAnchors g;
      g.grid = grid_of(f, mode == "ab");
      g.cell_size = std::stof(f.meta("grid_cell_size"));
      const int64_t count = g.grid.anchors();
      Tensor points({count, 2}), strides({count, 1}), boxes({count, 4});
      g.points = points.f32();
      g.strides = strides.f32();
      g.boxes = boxes.f32();
      backend(Device::kCpu).generate_anchors(g);
      REQUIRE(max_difference(points, f.at("train." + mode + ".anchor_points")) == 0);
      REQUIRE(max_difference(strides, f.at("train." + mode + ".stride_tensor")) == 0);
      REQUIRE(max_difference(boxes, f.at("train." + mode + ".anchors")) == 0);
      g.pixels = false;
      backend(Device::kCpu).generate_anchors(g);
      REQUIRE(max_difference(points, f.at("eval." + mode + ".anchor_points")) == 0);
      REQUIRE(max_difference(strides, f.at("eval." + mode + ".stride_tensor")) == 0);
    }
  }
}

TEST_CASE("anchors run level by level, rows first") {
  GenerateAnchors g;
  g.grid.levels = 2;
  g.grid.level[0] = {2, 3, 8.0f};
  g.grid.level[1] = {1, 1, 16.0f};
  REQUIRE(g.grid.anchors() == 7);
  std::vector<float> points(14), strides(7);
  g.points = points.data();
  g.strides = strides.data();
  backend(Device::kCpu).generate_anchors(g);
  REQUIRE(points == std::vector<float>{4, 4, 12, 4, 20, 4, 4, 12, 12, 12, 20, 12, 8, 8});
  REQUIRE(strides == std::vector<float>{8, 8, 8, 8, 8, 8, 16});
}

TEST_CASE("every fixture of assigners/ belongs to a test") {
  CHECK(unclaimed_fixtures(kAssignerFixtures) == std::vector<std::string>{});
}

TEST_CASE("task-aligned assignment matches the official assigner") {
  for (const std::string& name : fixtures_of(kAssignerFixtures, "tal_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    TalProblem q(fixture_problem(f));
    q.p.topk = std::stoll(f.meta("topk"));
    q.p.alpha = std::stod(f.meta("alpha"));
    q.p.beta = std::stod(f.meta("beta"));
    q.p.eps = std::stod(f.meta("eps"));
    q.run();
    require_fixture_result(q, f);
  }
}

TEST_CASE("task-aligned assignment equals its plain definition") {
  // The last three: fewer anchors than topk, no boxes, more than 100 boxes.
  const std::vector<ProblemSize> sizes = {{{{12, 12, 1.0}}, 3, 4, 0, 9},
                                          {{{8, 8, 8.0}, {4, 4, 16.0}, {2, 2, 32.0}}, 2, 3, 1, 8},
                                          {{{3, 3, 1.0}, {1, 1, 2.0}}, 3, 2, 1, 3},
                                          {{{6, 6, 1.0}}, 2, 2, 0, 0},
                                          {{{16, 16, 8.0}, {8, 8, 16.0}}, 2, 5, 101, 130}};
  for (const ProblemSize& size : sizes) {
    int64_t positives = 0;
    for (uint64_t seed = 0; seed < 12; ++seed) {
      TalProblem q(test::random_problem(seed, size));
      q.run();
      std::vector<int32_t> assigned;
      std::vector<double> target;
      plain_task_aligned_assign(q, assigned, target);
      REQUIRE(q.assigned == assigned);
      for (size_t i = 0; i < target.size(); ++i) {
        REQUIRE(std::abs(q.target[i] - target[i]) < 1e-12);
        positives += assigned[i] >= 0;
      }
    }
    REQUIRE((positives > 20) == (size.most_boxes > 0));
  }
}

TEST_CASE("task-aligned assignment breaks ties by the lower index") {
  TalProblem q = random_problem(5, 8, 1, 1, 0);
  q.p.topk = 5;
  q.gt_boxes = {0, 0, 8, 8};
  q.gt_classes = {0};
  q.gt_begin = {0, 1};
  std::fill(q.scores.begin(), q.scores.end(), 0.5f);
  for (int64_t a = 0; a < 64; ++a)
    for (int k = 0; k < 4; ++k) q.pred_boxes[4 * a + k] = k < 2 ? 1 : 5;
  SECTION("among equal alignments") {
    q.run();
    for (int64_t a = 0; a < 64; ++a) REQUIRE((q.assigned[a] >= 0) == (a < 5));
  }
  SECTION("among anchors of alignment zero, those outside taking places too") {
    q.gt_boxes = {1, 0, 8, 8};  // anchors 0, 8, ... are outside
    std::fill(q.scores.begin(), q.scores.end(), 0.0f);
    q.scores[20] = 0.5f;
    q.run();
    std::vector<int64_t> found;
    for (int64_t a = 0; a < 64; ++a)
      if (q.assigned[a] >= 0) found.push_back(a);
    REQUIRE(found == std::vector<int64_t>{1, 2, 3, 20});
    REQUIRE(q.target[1] == 0.0);
    REQUIRE(q.target[20] > 0.0);
  }
  SECTION("between equal boxes the first") {
    q.gt_boxes.insert(q.gt_boxes.end(), q.gt_boxes.begin(), q.gt_boxes.begin() + 4);
    q.gt_classes = {0, 0};
    q.gt_begin = {0, 2};
    q.run();
    for (int64_t a = 0; a < 64; ++a) REQUIRE(q.assigned[a] == (a < 5 ? 0 : -1));
  }
}

TEST_CASE("task-aligned assignment survives NaN predictions") {
  TalProblem q = random_problem(6, 8, 2, 2, 5);
  for (size_t i = 0; i < q.scores.size(); i += 3) q.scores[i] = std::nanf("");
  for (size_t i = 0; i < q.pred_boxes.size(); i += 7) q.pred_boxes[i] = std::nan("");
  q.run();
  for (const double t : q.target) REQUIRE(std::isfinite(t));
}

TEST_CASE("task-aligned assignment takes logits and blocks of levels") {
  TalProblem q = random_problem(7, 10, 3, 3, 6);
  q.run();
  const auto assigned = q.assigned;
  const auto target = q.target;
  // The same scores as logits, cut into two levels that are tensors of their own.
  const int64_t first = 60, second = q.anchors - first;
  std::vector<float> one, two;
  for (int64_t n = 0; n < q.batch; ++n)
    for (int64_t a = 0; a < q.anchors; ++a)
      for (int64_t c = 0; c < q.classes; ++c) {
        const double s = q.scores[(n * q.anchors + a) * q.classes + c];
        (a < first ? one : two).push_back(static_cast<float>(std::log(s / (1 - s))));
      }
  q.p.logits = true;
  q.p.blocks = 2;
  q.p.scores[0] = {one.data(), first, first * q.classes, q.classes};
  q.p.scores[1] = {two.data(), second, second * q.classes, q.classes};
  backend(Device::kCpu).task_aligned_assign(q.p);
  REQUIRE(q.assigned == assigned);
  for (size_t i = 0; i < target.size(); ++i) REQUIRE(std::abs(q.target[i] - target[i]) < 1e-6);
}

TEST_CASE("anchors_inside marks the anchors within any box") {
  TalProblem q = random_problem(8, 9, 2, 1, 4);
  std::vector<uint8_t> inside(q.batch * q.anchors, 7);
  q.run();
  backend(Device::kCpu).anchors_inside({q.p, inside.data()});
  for (int64_t n = 0; n < q.batch; ++n)
    for (int64_t a = 0; a < q.anchors; ++a) {
      int expected = 0;
      for (int64_t g = q.gt_begin[n]; g < q.gt_begin[n + 1]; ++g) {
        const double* b = &q.gt_boxes[4 * g];
        const double x = q.points[2 * a], y = q.points[2 * a + 1];
        if (x - b[0] > 1e-9 && b[2] - x > 1e-9 && y - b[1] > 1e-9 && b[3] - y > 1e-9) expected = 1;
      }
      REQUIRE(inside[n * q.anchors + a] == expected);
      if (q.assigned[n * q.anchors + a] >= 0) REQUIRE(expected == 1);
    }
  REQUIRE(std::accumulate(inside.begin(), inside.end(), 0) > 0);
}

TEST_CASE("anchors_inside matches the official candidate test") {
  for (const std::string& name : fixtures_of(kAssignerFixtures, "box_geometry")) {
    SEXTANT_REQUIRE_FIXTURE(f, name);
    const Tensor& expected = f.at("output.select_candidates_in_gts");
    const auto points = doubles(f.at("input.anchor_points"));
    const auto boxes = doubles(f.at("input.gts"));
    const std::vector<int64_t> begin = {0, 1};
    AnchorsInside p;
    p.points = points.data();
    p.gt_begin = begin.data();
    p.batch = 1;
    p.anchors = expected.dim(2);
    std::vector<uint8_t> inside(p.anchors);
    p.inside = inside.data();
    for (int64_t g = 0; g < expected.dim(0) * expected.dim(1); ++g) {
      p.gt_boxes = &boxes[4 * g];
      backend(Device::kCpu).anchors_inside(p);
      for (int64_t a = 0; a < p.anchors; ++a)
        REQUIRE(static_cast<float>(inside[a]) == expected.f32()[g * p.anchors + a]);
    }
  }
}
