// SPDX-License-Identifier: Apache-2.0
// The raw boxes of an anchor-based branch to boxes in cells (official effidehead_fuseab.py). Of the
// four channels of each anchor the first two, the centre, pass; the others become
//
//   (2 sigmoid(x))^2 * side,   side the anchor's width or height in cells.
#pragma once

#include <cstdint>

#include "kernels/math/activation.h"

namespace sextant::kernels {

inline constexpr int64_t kMaxAnchors = 16;

struct AnchorBoxes {
  const float* x = nullptr;   // [rows, 4 anchors]
  const float* dy = nullptr;  // backward: the gradient by the boxes
  float* out = nullptr;       // the boxes, or the gradient by x; overwritten
  int64_t rows = 0;
  int64_t anchors = 0;               // 1 to kMaxAnchors; Error for others
  float side[2 * kMaxAnchors] = {};  // width and height of each anchor
};

// --- one definition for the CPU and CUDA --------------------------------------------------------

// Element i of the rows.
template <bool kBackward>
SEXTANT_HD float anchor_box(const AnchorBoxes& p, int64_t i, uint32_t channel) {
  const float through = kBackward ? p.dy[i] : p.x[i];
  if (channel % 4 < 2) return through;
  const float s = sigmoid(p.x[i]), y = 4.0f * s * s * p.side[channel / 4 * 2 + channel % 2];
  return kBackward ? through * 2.0f * y * (1.0f - s) : y;
}

}  // namespace sextant::kernels
