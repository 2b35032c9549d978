// SPDX-License-Identifier: Apache-2.0
// Labels ranked by how much a detector disagrees with them.
//
// After ObjectLab (Tkachenko, Thyagarajan, Mueller: "ObjectLab: Automated Diagnosis of Mislabeled
// Images in Object Detection Data", 2023): a sure detection without a label like it was overlooked, a
// label with a sure detection of another class in its place was swapped, one with a sure detection of
// its class beside it is badly placed. Boxes are alike by its similarity. Two things differ:
//
// - Its thresholds are probabilities. The scores of a detector are not, so their place is taken by
//   q, the share of the labels of the class that are detected at most as surely.
// - Labels and detections are matched first, so that one disagreement is listed once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/enum_names.h"
#include "data/metrics/coco_map.h"

namespace sextant::data {

// ObjectLab's similarity: 0.9 IoU + 0.1 exp(-d / 10), with d pixels between the centres.
double box_similarity(const CocoBox& a, const CocoBox& b);

enum class FaultKind { kNone, kOverlooked, kSwapped, kMisplaced, kUndetected };
constexpr auto enum_names(FaultKind) {
  return make_enum_names<FaultKind>("fault", {{FaultKind::kNone, "none"},
                                              {FaultKind::kOverlooked, "overlooked"},
                                              {FaultKind::kSwapped, "swapped"},
                                              {FaultKind::kMisplaced, "badly placed"},
                                              {FaultKind::kUndetected, "not detected"}});
}

struct LabelFault {
  FaultKind kind = FaultKind::kNone;
  size_t image = 0;
  int64_t truth = -1;      // -1: overlooked
  int64_t detection = -1;  // that disagrees, or was matched; -1: none
  double suspicion = 0;    // 0..1
};

// One entry for each label (without crowds) and each overlooked box, the most suspicious first; equal
// ones in the order of the images. Detections with low scores too: what few labels are detected as
// unsurely as is sorted out here. Of equal boxes of several classes the surest counts.
//
// Matching: by falling score, each detection takes the free label of its class with the highest IoU,
// at least 0.5, after detections of a class that overlap by as much were reduced to the surest. For
// a detection that is left, with q of at least 0.1:
//   swapped       a free label of another class, IoU v >= 0.5        0.5 + 0.5 q v
//   badly placed  a free label of its class, 0.1 <= v < 0.5          0.5 + 0.5 q
//   overlooked    neither                                            q (1 - similarity to the nearest
//                                                                       label of its class)
// For a label that is left: not detected, 0.3; detections with q below 0.05 are not looked at. For one that is matched: 0.5 (1 - IoU).
std::vector<LabelFault> rank_label_faults(std::span<const ImageEval> images);

}  // namespace sextant::data
