// SPDX-License-Identifier: Apache-2.0
// Adaptive training sample selection (ATSS, Zhang et al. 2020, algorithm 1; the official
// yolov6/assigners/atss_assigner.py), a label assignment that needs no trained predictions.
//
// Candidates of box g are the topk anchors of each level whose points are closest to g's centre, or
// all of a level that has fewer (the official code fails there). With u the IoU of g and an
// anchor's own box (union at least 1e-6), positive for g are its candidates with u above the mean
// plus the standard deviation (unbiased) of all its candidates, whose point is strictly inside g
// (by more than eps). A single candidate exceeds no threshold and is not positive. An anchor that
// is positive for several boxes goes to the one of the largest u among all boxes of the image, the
// first one at a tie, whether or not it was a candidate of that one. The target score is the IoU of
// the box and the anchor's predicted box (union + eps).
#pragma once

#include "kernels/detection/assign.h"

namespace sextant::kernels {

// pred_boxes are read at positive anchors, all of which lie inside a box. CUDA: topk is at most
// cuda::kMaxTopk.
struct AtssAssign : LabelAssign {
  const double* anchor_boxes = nullptr;             // [A,4] x1 y1 x2 y2, pixels, around points
  std::array<int64_t, kMaxLevels> level_anchors{};  // anchors of each level, in order
  int levels = 0;
  int64_t topk = 9;
};

}  // namespace sextant::kernels
