// SPDX-License-Identifier: Apache-2.0
#include "deploy/detect/box_changes.h"

#include <algorithm>

namespace sextant::deploy {
namespace {

constexpr double kSame = 0.9, kMatches = 0.5, kNear = 0.1;
constexpr float kWeak = 0.01f;

// The largest overlap with a box of the class, or of any other class.
double best_overlap(const kernels::Detection& box, const std::vector<kernels::Detection>& others,
                    bool same_class) {
  double best = 0;
  for (const auto& o : others)
    if ((o.class_id == box.class_id) == same_class) best = std::max(best, overlap(box, o));
  return best;
}

kernels::NmsOptions weak(kernels::NmsOptions nms) {
  nms.conf = std::min(nms.conf, kWeak);
  nms.max_det = kernels::cuda::kMaxKept;
  return nms;
}
kernels::NmsOptions unsuppressed(kernels::NmsOptions nms) {
  nms.iou = 1;  // no box overlaps another by more
  nms.max_det = kernels::cuda::kMaxKept;
  return nms;
}

}  // namespace

double overlap(const kernels::Detection& a, const kernels::Detection& b) {
  if (a.x1 == b.x1 && a.y1 == b.y1 && a.x2 == b.x2 && a.y2 == b.y2) return 1;
  const auto side = [](float low1, float high1, float low2, float high2) {
    return std::max(0.0, double{std::min(high1, high2)} - double{std::max(low1, low2)});
  };
  const auto area = [](const kernels::Detection& d) {
    return (double{d.x2} - double{d.x1}) * (double{d.y2} - double{d.y1});
  };
  const double both = side(a.x1, a.x2, b.x1, b.x2) * side(a.y1, a.y2, b.y1, b.y2);
  const double either = area(a) + area(b) - both;
  return either > 0 ? both / either : 0;
}

Observatory::Observatory(const Graph& graph, const DetectorConfig& config)
    : shown_(graph, config),
      weak_(shown_.sibling(weak(config.nms))),
      candidates_(shown_.sibling(unsuppressed(config.nms))) {}

Sight Observatory::look(const data::Image& image) {
  return {shown_.run(image), weak_.run(image), candidates_.run(image)};
}

std::vector<BoxChange> box_changes(const std::vector<kernels::Detection>& boxes,
                                   const Sight& other) {
  std::vector<BoxChange> changes;
  for (const auto& box : boxes) {
    const double shown = best_overlap(box, other.shown, true);
    BoxChange change = BoxChange::kGone;
    if (shown >= kSame)
      change = BoxChange::kKept;
    else if (shown >= kMatches)
      change = BoxChange::kMoved;
    else if (best_overlap(box, other.shown, false) >= kMatches)
      change = BoxChange::kClass;
    else if (best_overlap(box, other.candidates, true) >= kMatches)
      change = BoxChange::kSuppressed;
    else if (best_overlap(box, other.weak, true) >= kMatches)
      change = BoxChange::kScore;
    else if (shown >= kNear)
      change = BoxChange::kPlace;
    changes.push_back(change);
  }
  return changes;
}

}  // namespace sextant::deploy
