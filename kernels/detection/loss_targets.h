// SPDX-License-Identifier: Apache-2.0
// Converts an assignment of boxes to anchors (kernels/detection/assign.h) for the losses: a label
// for each row of the class maps, and the sum of the target scores, which divides the losses.
#pragma once

#include <cstdint>

#include "core/communicator.h"
#include "kernels/detection/box_maps.h"

namespace sextant::kernels {

struct TargetScores {
  double sum;
  double positives;  // how many anchors have a box
  double divisor;    // the sum, or 1 where that is not above LossTargets::undivided
};

// Rows run level by level, each level as its maps are: row (n * pixels + i) * per_cell + b.
//
// CUDA: anchors of all images below 2^31. The order of summation is fixed.
struct LossTargets {
  BoxMaps maps;                         // sizes only
  const int32_t* assigned = nullptr;    // [N,A]: box within its image, -1 for background
  const double* target = nullptr;       // [N,A]: its target score; 0 for background
  const int32_t* gt_classes = nullptr;  // [boxes]
  const int64_t* gt_begin = nullptr;    // [N+1]
  double undivided = 1.0;
  // Results, overwritten.
  int32_t* label = nullptr;        // [N*A]: class, -1 for background
  int32_t* object = nullptr;       // [N*A]: 0 where there is a box, else -1; may be null
  double* row_target = nullptr;    // [N*A]
  TargetScores* scores = nullptr;  // one
  // The images are a part of a batch whose other parts are with other processes: the scores are
  // those of all.
  Communicator* across = nullptr;
};

namespace cuda {
int64_t workspace_bytes(const LossTargets& p);
}

}  // namespace sextant::kernels
