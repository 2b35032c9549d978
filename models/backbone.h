// SPDX-License-Identifier: Apache-2.0
// The backbone: a stem and four (P6: five) stages, each of which halves the size, with spatial
// pyramid pooling at the end.
#pragma once

#include <memory>
#include <vector>

#include "models/yolov6_config.h"

namespace sextant {

// Official efficientrep.py: EfficientRep, EfficientRep6, CSPBepBackbone, CSPBepBackbone_P6, which
// differ in the kind and number of their stages.
class Backbone : public Module {
 public:
  Backbone(const Yolov6Config& config, Rng& rng);
  // The maps of stride 8, 16, 32 (and 64), preceded by that of stride 4 if the neck uses it.
  std::vector<Variable> forward(const Variable& x) const;

 private:
  std::shared_ptr<Layer> stem_;
  std::vector<std::shared_ptr<Sequence>> stages_;
  bool fuse_p2_;
};

}  // namespace sextant
