// SPDX-License-Identifier: Apache-2.0
// SimOTA (YOLOX, Ge et al. 2021, section 2.1), a label assignment that takes for each box as many
// of the cheapest anchors as the overlaps of its predictions suggest.
//
// Candidates of an image are the anchors whose point is strictly inside a box, or strictly inside
// the square of `radius` strides around a box's centre, for any of its boxes. With u the IoU of box
// g and a candidate's predicted box (union + eps), and p_c the predicted probability of class c,
// times that of an object where objectness is given,
//
//   cost(g, a) = sum over classes of bce(sqrt(p_c), [c == class of g])
//                + iou_weight * -log(u + 1e-8)
//                + 1e5 unless a's point is inside g and inside the square around g's centre
//
// with logarithms of bce clamped at -100. Box g takes its k cheapest candidates, k the sum of its
// `dynamic_k` largest u rounded down, at least 1. An anchor taken by several boxes goes to the one
// of the lowest cost among all boxes of the image, the first one at a tie. The target score is u.
#pragma once

#include "kernels/detection/assign.h"

namespace sextant::kernels {

// pred_boxes are read at candidates. CUDA: dynamic_k is at most cuda::kMaxTopk.
struct SimOtaAssign : LabelAssign {
  std::array<ScoreBlock, kMaxScoreBlocks> scores;      // logits, anchors in the order of the blocks
  std::array<ScoreBlock, kMaxScoreBlocks> objectness;  // logits of one channel; not read unless
  bool has_objectness = false;                         // this is set
  int64_t classes = 0;
  const double* strides = nullptr;  // [A] pixels
  double radius = 2.5;
  int64_t dynamic_k = 10;
  double iou_weight = 3.0;
};

// candidate[n*A + a] = 1 where a is a candidate of image n, else 0.
struct SimOtaCandidates {
  SimOtaAssign problem{};  // points, strides, radius, gt_*, batch and anchors are read
  uint8_t* candidate = nullptr;
};

namespace cuda {
int64_t workspace_bytes(const SimOtaAssign& p);
}

}  // namespace sextant::kernels
