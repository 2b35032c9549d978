// The backbone: a stem and four (P6: five) stages, each halving the size, with a spatial pyramid
// pooling at the end.
#pragma once

#include <memory>
#include <vector>

#include "models/yolov6_config.h"

namespace sextant {

// Official efficientrep.py: EfficientRep, EfficientRep6, CSPBepBackbone, CSPBepBackbone_P6, which
// differ in what a stage is made of and how many there are.
class Backbone : public Module {
 public:
  Backbone(const Yolov6Config& config, Rng& rng);
  // The maps of stride 8, 16, 32 (and 64), before them that of stride 4 where the neck wants it.
  std::vector<Variable> forward(const Variable& x) const;

 private:
  std::shared_ptr<Layer> stem_;
  std::vector<std::shared_ptr<Sequence>> stages_;
  bool fuse_p2_;
};

}  // namespace sextant
