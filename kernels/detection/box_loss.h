// SPDX-License-Identifier: Apache-2.0
// The losses of the boxes at anchors that have one to find, with their gradient, in one pass over
// the maps: box decoding, IoU loss, distribution focal loss and its distillation.
//
// With box p of an anchor, the assigned box t (both in cells), target score w, and over all anchors
// with a box:
//
//   sums[0] = sum w (1 - similarity(p, t))                (kernels/detection/iou_loss.h)
//   sums[1] = sum w mean over the sides of the focal loss (kernels/detection/dfl.h; distributions)
//   sums[2] = S mean over anchors and sides of T^2 KL(softmax(teacher / T) || softmax(reg / T))
//                                                         (kernels/detection/kl_div.h; a teacher)
//
// where S is the sum of the target scores, and distances to t are clipped to [0, bins - 1.01]. The
// gradient is that of the sums, each times its scale, divided by TargetScores::divisor.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/detection/box_maps.h"
#include "kernels/detection/iou_loss.h"
#include "kernels/detection/loss_targets.h"

namespace sextant::kernels {

inline constexpr int kBoxLossSums = 3;

// The order of summation is fixed. CUDA: at most 2^29 anchors in all.
struct BoxLoss {
  BoxMaps maps;
  // Shaped as the maps, level by level; null where there is none. Gradients are written at anchors
  // with a box only, the rest is left alone.
  const float* teacher[kMaxLevels] = {};
  float* grad[kMaxLevels] = {};
  const int32_t* assigned = nullptr;     // [N,A]: box within its image, -1 for background
  const double* target = nullptr;        // [N,A]: w
  const double* gt_boxes = nullptr;      // [boxes,4] x1 y1 x2 y2, pixels
  const int64_t* gt_begin = nullptr;     // [N+1]
  const TargetScores* scores = nullptr;  // of this assignment
  IouType type = IouType::kGIoU;
  double eps = 1e-10;
  double alpha = 3.0;
  double temperature = 1.0;
  double scale[kBoxLossSums] = {1.0, 1.0, 1.0};
  double* sums = nullptr;  // [kBoxLossSums], overwritten
};

namespace cuda {
int64_t workspace_bytes(const BoxLoss& p);
}

}  // namespace sextant::kernels
