// SPDX-License-Identifier: Apache-2.0
// The official evaluator's metrics beyond COCO's: precision, recall and F1 over the confidence
// threshold, and the confusion matrix (official yolov6/utils/metrics.py, fixtures
// post/ap_per_class_* and post/process_batch). mAP is reported from coco_map.h, not from here.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "data/metrics/coco_map.h"

namespace sextant::data {

inline constexpr size_t kThresholds = 10;  // of IoU: 0.50, 0.55, ..., 0.95
using IouThresholds = std::array<double, kThresholds>;
inline constexpr IouThresholds kIouThresholds{0.50, 0.55, 0.60, 0.65, 0.70,
                                              0.75, 0.80, 0.85, 0.90, 0.95};

struct MatchedDetection {
  int class_id = 0;
  double score = 0;
  std::array<bool, kThresholds> correct{};  // at each IoU threshold
};
// Which detections of an image match a box of their class: each detection takes the box it overlaps
// most, and of those that take the same box the first counts. Detections by falling score, as NMS
// returns them. Crowds are left out.
std::vector<MatchedDetection> match_detections(const ImageEval& image,
                                               const IouThresholds& thresholds = kIouThresholds);

// Curves over the confidence, sampled at i / 999 for i in [0, 1000), at IoU 0.5.
struct PrecisionRecall {
  static constexpr size_t kPoints = 1000;
  struct Class {
    int class_id = 0;  // a class that has boxes; all zero if it has no detections
    std::vector<double> precision, recall, f1;
    std::array<double, kThresholds> ap{};  // 101-point trapezoid, per IoU threshold
  };
  std::vector<Class> classes;  // by rising id
  size_t best = 0;             // the point with the largest mean F1, the last of several
  // Means over the classes at the best point; zero without classes.
  double confidence = 0, precision = 0, recall = 0, f1 = 0;
};
// Where the F1 of a class is best, the last of several points; empty if it has no detections.
std::optional<double> best_confidence(const PrecisionRecall::Class& c);
// `truth_classes` holds the class of each box. Detections in any order, which ties keep.
PrecisionRecall precision_recall(std::vector<MatchedDetection> detections,
                                 std::span<const int> truth_classes);

// Row: predicted class, column: true class; the last row and column are background.
struct ConfusionMatrix {
  explicit ConfusionMatrix(int classes)
      : size(classes + 1), counts(static_cast<size_t>(size) * static_cast<size_t>(size)) {}
  int size;
  std::vector<int64_t> counts;
  int64_t& at(int predicted, int truth) {
    return counts[static_cast<size_t>(predicted) * static_cast<size_t>(size) +
                  static_cast<size_t>(truth)];
  }
  // Matches detections above `conf` with boxes of any class at an IoU above `iou`: each detection
  // takes the box it overlaps most, and each box the detection that overlaps it most. As in the
  // official code, the detections of an image without any match are not counted.
  void add(const ImageEval& image, double conf = 0.25, double iou = 0.45);
};

}  // namespace sextant::data
