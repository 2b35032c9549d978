// SPDX-License-Identifier: Apache-2.0
// SimOTA's arithmetic, one definition for the CPU and CUDA.
#pragma once

#include "kernels/detection/simota.h"
#include "kernels/math/assign.h"

namespace sextant::kernels::assigning {

inline constexpr double kOutsideCost = 1e5;  // of anchors that are not well inside
inline constexpr double kLargestFinite = 1.7976931348623157e308;

SEXTANT_HD double logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// Strictly inside the square of `reach` pixels around a box's centre.
SEXTANT_HD bool near_centre(const double* point, double reach, const double* box) {
  const double dx = std::abs(point[0] - (box[0] + box[2]) / 2.0);
  const double dy = std::abs(point[1] - (box[1] + box[3]) / 2.0);
  return larger(dx, dy) < reach;
}

// For one class at one anchor: log p and log(1 - p) of the root of its probability.
struct ClassTerms {
  double log_p, log_not_p;
};
SEXTANT_HD ClassTerms class_terms(float logit, double object) {
  const double root = std::sqrt(logistic(static_cast<double>(logit)) * object);
  return {larger(std::log(root), -100.0), larger(std::log(1.0 - root), -100.0)};
}

// `background`: the cost of all classes if the anchor had none; `terms`: those of the box's class.
SEXTANT_HD double simota_cost(double background, ClassTerms terms, double overlap_with_box,
                              bool well_inside, double iou_weight) {
  const double sum = background + terms.log_not_p - terms.log_p -
                     iou_weight * std::log(overlap_with_box + 1e-8) +
                     (well_inside ? 0.0 : kOutsideCost);
  return std::abs(sum) <= kLargestFinite ? sum : 2.0 * kOutsideCost;  // also for NaN
}

}  // namespace sextant::kernels::assigning
