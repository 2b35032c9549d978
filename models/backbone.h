// SPDX-License-Identifier: Apache-2.0
// The backbone: a stem and four (P6: five) stages, each of which halves the size, with spatial
// pyramid pooling at the end.
#pragma once

#include <memory>
#include <vector>

#include "models/yolov6_config.h"

namespace sextant {

class Backbone : public Module {
 public:
  // The maps of stride 8, 16, 32 (and of the P6 kinds 64), preceded by that of stride 4 if the neck
  // uses it.
  virtual std::vector<Variable> forward(const Variable& x) const = 0;
};

std::shared_ptr<Backbone> make_backbone(const Yolov6Config& config, Rng& rng);

// Official efficientrep.py: EfficientRep, EfficientRep6, CSPBepBackbone, CSPBepBackbone_P6, which
// differ in the kind and number of their stages.
class EfficientBackbone : public Backbone {
 public:
  EfficientBackbone(const Yolov6Config& config, Rng& rng);
  std::vector<Variable> forward(const Variable& x) const override;

 private:
  std::shared_ptr<Layer> stem_;
  std::vector<std::shared_ptr<Sequence>> stages_;
  bool fuse_p2_;
};

// Official efficientrep.py: Lite_EffiBackbone. Stages of one LiteEffiBlockS2 and LiteEffiBlockS1s.
class LiteBackbone : public Backbone {
 public:
  LiteBackbone(const Yolov6Config& config, Rng& rng);
  std::vector<Variable> forward(const Variable& x) const override;

 private:
  std::shared_ptr<Layer> stem_;
  std::vector<std::shared_ptr<Sequence>> stages_;
};

}  // namespace sextant
