// SPDX-License-Identifier: Apache-2.0
// Label assignment: the box that each anchor is trained to predict, and its target score.
//
// LabelAssign is common to the three assigners. None waits for the device or reads its memory on
// the host. Computed in double, each image separately, so the result does not depend on threads.
// When equal values compete for the last places, the lower anchor index wins (PyTorch does not
// specify this).
//
// Task-aligned assignment (TOOD, Feng et al. 2021, section 3.2; the official
// yolov6/assigners/tal_assigner.py): for box g and anchor a, with s the predicted score of g's
// class at a and u the IoU of g and a's predicted box (union + eps), the alignment is
// t = s^alpha * u^beta. Positive for g are the anchors strictly inside g (by more than eps on each
// side) among its topk largest t, t counting as 0 outside g. An anchor that is positive for several
// boxes goes to the box of the largest u among all boxes of the image, the first one at a tie,
// whether or not it was positive for that one. The target score of a, assigned to g, is
// t * max u / (max t + eps), both maxima over the anchors assigned to g.
//
// kernels/detection/atss.h and kernels/detection/simota.h hold the other two.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/detection/anchors.h"

namespace sextant::kernels {

// A block of predictions, `classes` channels an anchor: element (n, a, c) is at
// data[n * image_stride + a * anchor_stride + c]. A level of NHWC head outputs has image_stride
// H*W*classes and anchor_stride classes; one of its three anchors a cell in the anchor-aided branch
// has three times as much of both.
struct ScoreBlock {
  const float* data = nullptr;
  int64_t anchors = 0;
  int64_t image_stride = 0;
  int64_t anchor_stride = 0;
};

inline constexpr int kMaxScoreBlocks = 3 * kMaxLevels;

// Anchors and the boxes that may be assigned to them.
struct AnchorsAndBoxes {
  const double* points = nullptr;       // [A,2] pixels
  const double* gt_boxes = nullptr;     // [boxes,4] x1 y1 x2 y2, pixels, those of image 0 first
  const int32_t* gt_classes = nullptr;  // [boxes]; not read by ATSS
  const int64_t* gt_begin = nullptr;    // [N+1]: image n has boxes gt_begin[n] .. gt_begin[n+1]-1
  // gt_begin[N], or more, where the list has room for more: a recorded launch serves lists of any
  // length up to it. Read on CUDA only: there the host cannot read gt_begin.
  int64_t boxes = 0;
  int64_t batch = 0;
  int64_t anchors = 0;
  double eps = 1e-9;
};

// CUDA: anchors and boxes of an image below 2^31.
struct LabelAssign : AnchorsAndBoxes {
  const double* pred_boxes = nullptr;  // [N,A,4] x1 y1 x2 y2, pixels; read only where each
                                       // assigner says so
  // Results, overwritten.
  int32_t* assigned = nullptr;  // [N,A]: index of the box within its image, -1 for background
  double* target = nullptr;     // [N,A]: target score of that box's class, 0 for background
};

// pred_boxes are read at anchors that lie strictly inside one of their image's boxes. CUDA: topk is
// at most cuda::kMaxTopk.
struct TaskAlignedAssign : LabelAssign {
  std::array<ScoreBlock, kMaxScoreBlocks> scores;  // anchors in the order of the blocks
  int blocks = 0;
  bool logits = false;  // scores are given before the sigmoid
  int64_t classes = 0;
  int64_t topk = 13;
  double alpha = 1.0;
  double beta = 6.0;
};

// inside[n*A + a] = 1 where a lies inside at least one box of image n as above, else 0. `boxes` is
// not read.
struct AnchorsInside : AnchorsAndBoxes {
  uint8_t* inside = nullptr;
};

namespace cuda {
inline constexpr int64_t kMaxTopk = 32;
int64_t workspace_bytes(const TaskAlignedAssign& p);
}  // namespace cuda

}  // namespace sextant::kernels
