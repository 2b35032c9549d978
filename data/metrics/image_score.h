// SPDX-License-Identifier: Apache-2.0
// How well one image was detected, at one confidence: for pictures of the best and the worst.
#pragma once

#include <cstdint>
#include <vector>

#include "data/metrics/coco_map.h"

namespace sextant::data {

// Intersection over union; 0 for boxes without an area.
double box_iou(const CocoBox& a, const CocoBox& b);

// Whether half of the detection lies in a crowd of its class.
bool in_a_crowd(const ImageEval& image, const Detection& d);

struct ImageScore {
  std::vector<bool> shown;  // of each detection: at least as sure as the confidence
  std::vector<bool> right;  // of each detection: shown, and takes a box
  std::vector<bool> found;  // of each box; crowds count as found
  int64_t rights = 0, wrongs = 0, missed = 0;

  // 2 rights / (2 rights + wrongs + missed); 1 where there is neither a box nor a detection.
  double f1() const;
};

// By falling score, each detection takes the free box of its class that it overlaps most, with an
// IoU of at least `iou`. One that lies in a crowd's box by half of its area is neither right nor
// wrong.
ImageScore score_image(const ImageEval& image, double confidence, double iou = 0.5);

}  // namespace sextant::data
