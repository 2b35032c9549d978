// SPDX-License-Identifier: Apache-2.0
// What the label assigners share, one definition for the CPU and CUDA.
#pragma once

#include <cmath>

#include "kernels/detection/assign.h"
#include "kernels/math/activation.h"

namespace sextant::kernels::assigning {

SEXTANT_HD double smaller(double a, double b) { return b < a ? b : a; }
SEXTANT_HD double larger(double a, double b) { return a < b ? b : a; }
SEXTANT_HD double extent(double low, double high) { return high > low ? high - low : 0.0; }

struct Overlap {
  double inter;
  double joint;
};

SEXTANT_HD Overlap overlap(const double* a, const double* b) {
  const double w = extent(larger(a[0], b[0]), smaller(a[2], b[2]));
  const double h = extent(larger(a[1], b[1]), smaller(a[3], b[3]));
  const double area_a = extent(a[0], a[2]) * extent(a[1], a[3]);
  const double area_b = extent(b[0], b[2]) * extent(b[1], b[3]);
  return {w * h, area_a + area_b - w * h};
}

SEXTANT_HD double iou(const double* a, const double* b, double eps) {
  const Overlap o = overlap(a, b);
  return o.inter / (o.joint + eps);
}

// ATSS' IoU of a box and an anchor's own.
SEXTANT_HD double anchor_iou(const double* box, const double* anchor_box) {
  const Overlap o = overlap(box, anchor_box);
  return o.inter / larger(o.joint, 1e-6);
}

// Strictly: by more than eps on each side.
SEXTANT_HD bool inside(const double* point, const double* box, double eps) {
  const double dx = smaller(point[0] - box[0], box[2] - point[0]);
  const double dy = smaller(point[1] - box[1], box[3] - point[1]);
  return smaller(dx, dy) > eps;
}

// The predictions of anchor a of image n.
template <class Blocks>
SEXTANT_HD const float* scores_at(const Blocks& blocks, int64_t n, int64_t a) {
  int b = 0;
  while (a >= blocks[b].anchors) a -= blocks[b++].anchors;
  return blocks[b].data + n * blocks[b].image_stride + a * blocks[b].anchor_stride;
}

SEXTANT_HD double power(double x, double e) {
  if (e == 1.0) return x;
  if (e == 6.0) return (x * x) * (x * x) * (x * x);
  return std::pow(x, e);
}

struct Alignment {
  double alpha, beta;
  bool logits;
  SEXTANT_HD double operator()(float score, double overlap_with_box) const {
    const auto raw = static_cast<double>(score);
    const double s = logits ? 1.0 / (1.0 + std::exp(-raw)) : raw;
    const double t = power(s, alpha) * power(overlap_with_box, beta);
    return t > 0.0 ? t : 0.0;  // also for NaN, which would break the order of sorting
  }
};

}  // namespace sextant::kernels::assigning
