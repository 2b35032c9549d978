// SPDX-License-Identifier: Apache-2.0
// Label assignment problems with the memory behind a contract's pointers, from a random stream or a
// fixture.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/config.h"
#include "kernels/detection/assign.h"
#include "support/support.h"

namespace sextant::test {

struct Grid {
  int64_t height;
  int64_t width;
  double stride;
};

struct Problem {
  int64_t batch = 0, anchors = 0, classes = 0;
  std::vector<Grid> levels;  // random problems
  std::vector<float> scores;
  std::vector<double> pred_boxes, points, strides, squares, gt_boxes;
  std::vector<int32_t> gt_classes;
  std::vector<int64_t> gt_begin = {0};
  std::vector<int32_t> assigned;
  std::vector<double> target;

  // Points p at this problem and its results, which are spoilt.
  void link(kernels::LabelAssign& p) {
    p.pred_boxes = pred_boxes.data();
    p.points = points.data();
    p.gt_boxes = gt_boxes.data();
    p.gt_classes = gt_classes.data();
    p.gt_begin = gt_begin.data();
    p.batch = batch;
    p.anchors = anchors;
    assigned.assign(batch * anchors, 99);
    target.assign(batch * anchors, 99.0);
    p.assigned = assigned.data();
    p.target = target.data();
  }
  kernels::ScoreBlock score_block() const {
    return {scores.data(), anchors, anchors * classes, classes};
  }
  const double* gt(int64_t n, int64_t g) const { return &gt_boxes[4 * (gt_begin[n] + g)]; }
  const double* pred(int64_t n, int64_t a) const { return &pred_boxes[4 * (n * anchors + a)]; }
  int64_t boxes(int64_t n) const { return gt_begin[n + 1] - gt_begin[n]; }
};

struct ProblemSize {
  std::vector<Grid> levels;
  int64_t batch;
  int64_t classes;
  int64_t least_boxes, most_boxes;  // per image
};

inline Problem random_problem(uint64_t seed, const ProblemSize& size) {
  Problem q;
  Rng rng(seed);
  q.batch = size.batch;
  q.classes = size.classes;
  q.levels = size.levels;
  for (const Grid& l : size.levels)
    for (int64_t y = 0; y < l.height; ++y)
      for (int64_t x = 0; x < l.width; ++x, ++q.anchors) {
        const double at[2] = {(static_cast<double>(x) + 0.5) * l.stride,
                              (static_cast<double>(y) + 0.5) * l.stride};
        q.points.insert(q.points.end(), at, at + 2);
        q.strides.push_back(l.stride);
        for (int k = 0; k < 4; ++k)
          q.squares.push_back(at[k % 2] + (k < 2 ? -2.5 : 2.5) * l.stride);
      }
  const double side = static_cast<double>(size.levels[0].height) * size.levels[0].stride;
  const double unit = size.levels[0].stride;
  for (int64_t n = 0; n < q.batch; ++n) {
    const int64_t boxes = size.least_boxes + rng.below(size.most_boxes - size.least_boxes + 1);
    for (int64_t g = 0; g < boxes; ++g) {
      const double x = rng.uniform(0, side), y = rng.uniform(0, side);
      const double w = rng.uniform(0.5 * unit, side * 0.7), h = rng.uniform(0.5 * unit, side * 0.7);
      for (const double v : {x - w / 2, y - h / 2, x + w / 2, y + h / 2}) q.gt_boxes.push_back(v);
      q.gt_classes.push_back(static_cast<int32_t>(rng.below(q.classes)));
    }
    q.gt_begin.push_back(q.gt_begin.back() + boxes);
    for (int64_t a = 0; a < q.anchors; ++a) {
      for (int i = 0; i < 4; ++i)
        q.pred_boxes.push_back(q.points[2 * a + (i & 1)] +
                               (i < 2 ? -1 : 1) * rng.uniform(0.2 * unit, side * 0.4));
      for (int64_t c = 0; c < q.classes; ++c)
        q.scores.push_back(static_cast<float>(rng.uniform(0.01, 0.99)));
    }
  }
  return q;
}

inline Problem fixture_problem(const SafeTensors& f) {
  Problem q;
  const Tensor& gt = f.at("input.gt_bboxes");
  const Tensor& pred = f.at("input.pd_bboxes");
  q.batch = pred.dim(0);
  q.anchors = pred.dim(1);
  q.classes = std::stoll(f.meta("num_classes"));
  if (const Tensor* scores = f.find("input.pd_scores"))
    q.scores.assign(scores->f32(), scores->f32() + scores->numel());
  q.pred_boxes = doubles(pred);
  q.points = doubles(f.at("input.anchor_points"));
  const int64_t rows = gt.dim(1);
  for (int64_t n = 0; n < q.batch; ++n) {
    int64_t count = 0;
    for (int64_t g = 0; g < rows; ++g) {
      const int64_t i = n * rows + g;
      if (f.at("input.mask_gt").f32()[i] == 0) continue;
      REQUIRE(g == count);  // padding comes last, so that indices are those of the fixture
      ++count;
      for (int k = 0; k < 4; ++k) q.gt_boxes.push_back(gt.f32()[4 * i + k]);
      q.gt_classes.push_back(static_cast<int32_t>(f.at("input.gt_labels").f32()[i]));
    }
    q.gt_begin.push_back(q.gt_begin.back() + count);
  }
  return q;
}

// Requires the assignment of the fixture, exactly, and its target scores within 1e-6.
inline void require_fixture_result(const Problem& q, const SafeTensors& f) {
  const uint8_t* foreground = f.at("output.fg_mask").data<uint8_t>();
  const int64_t* target_label = f.at("output.target_labels").data<int64_t>();
  const float* target_box = f.at("output.target_bboxes").f32();
  const float* target_score = f.at("output.target_scores").f32();
  int64_t wrong = 0, positives = 0;
  double worst = 0;
  for (int64_t n = 0; n < q.batch; ++n)
    for (int64_t a = 0; a < q.anchors; ++a) {
      const int64_t i = n * q.anchors + a;
      const int32_t g = q.assigned[i];
      wrong += (g >= 0) != (foreground[i] != 0);
      if (g < 0) {
        wrong += q.target[i] != 0.0;
      } else {
        ++positives;
        wrong += q.gt_classes[q.gt_begin[n] + g] != target_label[i];
        for (int k = 0; k < 4; ++k)
          wrong += static_cast<float>(q.gt(n, g)[k]) != target_box[4 * i + k];
      }
      for (int64_t c = 0; c < q.classes; ++c) {
        const double expected = target_score[i * q.classes + c];
        const bool own = g >= 0 && q.gt_classes[q.gt_begin[n] + g] == c;
        worst = std::max(worst, std::abs(expected - (own ? q.target[i] : 0.0)));
      }
    }
  REQUIRE(wrong == 0);
  REQUIRE(positives == std::stoll(f.meta("n_pos")));
  REQUIRE(worst < 1e-6);
}

// IoU with 1e-9 added to the union.
inline double plain_iou(const double* a, const double* b) {
  const double w = std::min(a[2], b[2]) - std::max(a[0], b[0]);
  const double h = std::min(a[3], b[3]) - std::max(a[1], b[1]);
  const double inter = std::max(w, 0.0) * std::max(h, 0.0);
  return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter + 1e-9);
}

// How far a point is inside a box; negative outside.
inline double plain_margin(const double* pt, const double* box) {
  return std::min(std::min(pt[0] - box[0], pt[1] - box[1]),
                  std::min(box[2] - pt[0], box[3] - pt[1]));
}

}  // namespace sextant::test
