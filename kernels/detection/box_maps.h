// SPDX-License-Identifier: Apache-2.0
// The boxes in a detector's maps: the cell of each box, and the form in which it is stored.
//
// Anchors of an image run level by level, within a level all cells for the first of the per_cell
// boxes, then for the next (the order of kernels/detection/anchors.h).
#pragma once

#include <cstdint>

#include "kernels/detection/anchors.h"

namespace sextant::kernels {

enum class BoxForm : int {
  kDistances,     // l t r b in cells
  kDistribution,  // each of them as the logits of `bins` bins, see kernels/detection/dfl.h
  kCentre,        // dx dy from the cell's middle, then w h, in cells; or with sizes, a b for
                  // (2 sigmoid(a))^2 and (2 sigmoid(b))^2 times the anchor's width and height
};

inline constexpr int kMaxBoxesPerCell = 3;

// Channels of a box are 4 * bins, bins 1 but for distributions. Box b of cell i of image n is at
// row (n * height * width + i) * per_cell + b of a map.
struct BoxLevel {
  const float* reg = nullptr;
  int64_t height = 0;
  int64_t width = 0;
  double stride = 1.0;                     // pixels per cell
  double sizes[kMaxBoxesPerCell][2] = {};  // pixels
};

struct BoxMaps {
  BoxLevel level[kMaxLevels];
  int levels = 0;
  int64_t batch = 0;
  int64_t per_cell = 1;
  BoxForm form = BoxForm::kDistances;
  int64_t bins = 1;
  bool sized = false;  // kCentre: with sizes

  int64_t anchors() const {
    int64_t n = 0;
    for (int l = 0; l < levels; ++l) n += level[l].height * level[l].width;
    return n * per_cell;
  }
};

// CUDA: at most 2^29 anchors in all.
struct DecodeBoxes {
  BoxMaps maps;
  const uint8_t* wanted = nullptr;  // [N,A]: others are left alone
  double* boxes = nullptr;          // [N,A,4] x1 y1 x2 y2, pixels
};

}  // namespace sextant::kernels
