// SPDX-License-Identifier: Apache-2.0
// COCO's box metric: what pycocotools' COCOeval computes, number for number.
//
// Ten IoU thresholds 0.50:0.05:0.95, precision sampled at 101 recall points, at most 100 detections
// per image and class, four area ranges. The definition is the reference implementation,
// cocoeval.py of cocodataset/cocoapi (evaluateImg, accumulate, summarize); the vectors under
// tests/fixtures/coco_map come from it.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/config.h"

namespace sextant::data {

// A box in pixels of the original image, as COCO stores it: left, top, width, height. Kept in this
// form so that IoUs equal those of pycocotools bit for bit.
struct CocoBox {
  double x = 0, y = 0, w = 0, h = 0;
  static CocoBox from_corners(double x0, double y0, double x1, double y1) {
    return {x0, y0, x1 - x0, y1 - y0};
  }
};

struct GroundTruth {
  int class_id = 0;
  CocoBox box;
  // COCO's `area` (of the segmentation, if any), or the box's area if absent. Decides between small
  // (< 32^2), medium and large (> 96^2); a value on a limit belongs to both ranges.
  std::optional<double> area;
  // A group of objects: detections inside it are ignored.
  bool crowd = false;
};

struct Detection {
  int class_id = 0;
  CocoBox box;
  double score = 0;
};

struct ImageEval {
  std::vector<GroundTruth> truths;
  std::vector<Detection> detections;  // in any order; ties keep this order
};

struct ClassMetrics {
  int64_t truths = 0;  // without crowds
  double ap = -1;      // mean over the ten thresholds
  double ap50 = -1;
  double ap75 = -1;
  double ar_100 = -1;
};

// All in [0, 1]; -1 if there is no ground truth of that class or size, as in pycocotools. Such
// classes are left out of the means.
struct CocoMetrics {
  double ap = -1, ap50 = -1, ap75 = -1;
  double ap_small = -1, ap_medium = -1, ap_large = -1;
  double ar_1 = -1, ar_10 = -1, ar_100 = -1;
  double ar_small = -1, ar_medium = -1, ar_large = -1;
  std::vector<ClassMetrics> per_class;

  // The twelve numbers in the order of COCOeval.stats.
  std::array<double, 12> stats() const;
  // {"map50_95", "map50", "map75", "map_small", ..., "ar_1", ..., "per_class": [{"name", "truths",
  // "map50_95", "map50", "map75", "ar_100"}]}; null instead of -1. `names` may be empty.
  Json to_json(const std::vector<std::string>& names) const;
};

// Images in the order of their ids, which breaks ties between equal scores of different images. The
// result does not depend on the number of threads. Throws Error naming image and entry for a class
// outside [0, classes) and for a box, area or score that is not finite.
CocoMetrics evaluate_coco(std::span<const ImageEval> images, int classes);

}  // namespace sextant::data
