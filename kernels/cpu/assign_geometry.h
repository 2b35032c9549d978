// What the label assigners on the CPU share.
#pragma once

#include <algorithm>
#include <array>

#include "kernels/assign.h"

namespace sextant::kernels::cpu {

inline double extent(double low, double high) { return high > low ? high - low : 0.0; }

struct Overlap {
  double inter;
  double joint;
};

inline Overlap overlap(const double* a, const double* b) {
  const double w = extent(std::max(a[0], b[0]), std::min(a[2], b[2]));
  const double h = extent(std::max(a[1], b[1]), std::min(a[3], b[3]));
  const double area_a = extent(a[0], a[2]) * extent(a[1], a[3]);
  const double area_b = extent(b[0], b[2]) * extent(b[1], b[3]);
  return {w * h, area_a + area_b - w * h};
}

inline double iou(const double* a, const double* b, double eps) {
  const Overlap o = overlap(a, b);
  return o.inter / (o.joint + eps);
}

// By more than eps on each side.
inline bool inside(const double* point, const double* box, double eps) {
  const double dx = std::min(point[0] - box[0], box[2] - point[0]);
  const double dy = std::min(point[1] - box[1], box[3] - point[1]);
  return std::min(dx, dy) > eps;
}

// The predictions of anchor a of image n.
inline const float* scores_at(const std::array<ScoreBlock, kMaxScoreBlocks>& blocks, int64_t n,
                              int64_t a) {
  int b = 0;
  while (a >= blocks[b].anchors) a -= blocks[b++].anchors;
  return blocks[b].data + n * blocks[b].image_stride + a * blocks[b].anchor_stride;
}

}  // namespace sextant::kernels::cpu
