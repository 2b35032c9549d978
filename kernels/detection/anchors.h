// SPDX-License-Identifier: Apache-2.0
// Anchor points of a detector's feature maps: the middle of each cell.
//
// Order: level after level, row-major (h, then w) inside a level, the whole level repeated
// `repeats` times (3 in the anchor-based branch of fuse_ab). As generate_anchors of the official
// yolov6/assigners/anchor_generator.py.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/math/activation.h"

namespace sextant::kernels {

inline constexpr int kMaxLevels = 6;

struct GridLevel {
  int64_t height = 0;
  int64_t width = 0;
  float stride = 1.0f;  // pixels per cell
};

struct AnchorGrid {
  std::array<GridLevel, kMaxLevels> level;
  int levels = 0;
  int repeats = 1;
  float cell_offset = 0.5f;

  int64_t anchors() const {
    int64_t n = 0;
    for (int l = 0; l < levels; ++l) n += level[l].height * level[l].width;
    return n * repeats;
  }
};

// points[a] = (x + cell_offset, y + cell_offset), in cells, or in pixels (times the stride).
// strides[a] is the stride of a's level. boxes[a] (x1 y1 x2 y2, pixels) is the square of
// cell_size * stride pixels around the point.
template <class T>  // float or double
struct AnchorsOf {
  AnchorGrid grid;
  bool pixels = true;
  float cell_size = 5.0f;
  T* points = nullptr;   // [A,2]
  T* strides = nullptr;  // [A]; may be null
  T* boxes = nullptr;    // [A,4]; may be null
};
using GenerateAnchors = AnchorsOf<float>;

}  // namespace sextant::kernels
