// SPDX-License-Identifier: Apache-2.0
// What becomes of a model's boxes when another takes its place: a quantized one, one of other weights.
#pragma once

#include <string>
#include <vector>

#include "core/enum_names.h"
#include "deploy/detect/detector.h"

namespace sextant::deploy {

// Of a box of one model in the other, the first that holds.
enum class BoxChange {
  kKept,        // a box of its class overlaps it by 0.9 or more
  kMoved,       // ... by 0.5 or more
  kClass,       // one of another class does
  kScore,       // one of its class does, whose score is below the limit
  kSuppressed,  // one of its class does, which another box suppressed
  kPlace,       // one of its class overlaps it by 0.1 or more
  kGone,        // none of these
};
constexpr auto enum_names(BoxChange) {
  return make_enum_names<BoxChange>("change", {{BoxChange::kKept, "kept"},
                                               {BoxChange::kMoved, "moved"},
                                               {BoxChange::kClass, "other class"},
                                               {BoxChange::kScore, "score too low"},
                                               {BoxChange::kSuppressed, "suppressed"},
                                               {BoxChange::kPlace, "elsewhere"},
                                               {BoxChange::kGone, "gone"}});
}
// Whether the box counts as lost.
inline bool is_lost(BoxChange c) { return c != BoxChange::kKept && c != BoxChange::kMoved; }

// All that a model sees in an image.
struct Sight {
  std::vector<kernels::Detection> shown{};       // with the limits of the comparison
  std::vector<kernels::Detection> weak{};        // with a confidence from 0.01 on
  std::vector<kernels::Detection> candidates{};  // as `shown`, but none suppressed
};

// Looks at images with one model. The weights are held once.
class Observatory {
 public:
  Observatory(const Graph& graph, const DetectorConfig& config);
  Sight look(const data::Image& image);

 private:
  Detector shown_, weak_, candidates_;
};

// For each of `boxes`, of one model, what it is in the other's sight. A box of the other's may stand for
// several.
std::vector<BoxChange> box_changes(const std::vector<kernels::Detection>& boxes,
                                   const Sight& other);

// Intersection over union, in double; 1 of equal boxes, which clipping may have left without area.
double overlap(const kernels::Detection& a, const kernels::Detection& b);

}  // namespace sextant::deploy
