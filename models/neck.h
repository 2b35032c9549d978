// SPDX-License-Identifier: Apache-2.0
// The necks: fusion of the backbone's maps from the deepest up, then back down.
#pragma once

#include <memory>
#include <vector>

#include "layers/lite_blocks.h"
#include "models/yolov6_config.h"

namespace sextant {

class Neck : public Module {
 public:
  // `features` as Backbone::forward() returns them -> one map per level, stride 8 first.
  virtual std::vector<Variable> forward(const std::vector<Variable>& features) const = 0;
  // Channels of the maps that forward() returns.
  const std::vector<int64_t>& out_channels() const { return out_channels_; }

 protected:
  std::vector<int64_t> out_channels_;
};

std::shared_ptr<Neck> make_neck(const Yolov6Config& config, Rng& rng);

// Top-down with concatenation, then bottom-up. Official reppan.py, RepPANNeck (three levels).
class RepPANNeck : public Neck {
 public:
  RepPANNeck(const Yolov6Config& config, Rng& rng);
  std::vector<Variable> forward(const std::vector<Variable>& features) const override;

 private:
  std::shared_ptr<Layer> rep_p4_, rep_p3_, rep_n3_, rep_n4_;
  std::shared_ptr<ConvBNAct> reduce0_, reduce1_, down2_, down1_;
  std::shared_ptr<Transpose> up0_, up1_;
};

// The same with BiFusion, which also takes the next lower map of the backbone on the way up.
// Official reppan.py: RepBiFPANNeck, RepBiFPANNeck6, CSPRepBiFPANNeck, CSPRepBiFPANNeck_P6.
class RepBiFPANNeck : public Neck {
 public:
  RepBiFPANNeck(const Yolov6Config& config, Rng& rng);
  std::vector<Variable> forward(const std::vector<Variable>& features) const override;

 private:
  struct Up {
    std::shared_ptr<ConvBNAct> reduce;
    std::shared_ptr<BiFusion> fuse;
    std::shared_ptr<Layer> stage;
  };
  struct Down {
    std::shared_ptr<ConvBNAct> down;
    std::shared_ptr<Layer> stage;
  };
  std::vector<Up> ups_;      // deepest first
  std::vector<Down> downs_;  // stride 8 first
};

// Top-down with concatenation and nearest upsampling, then bottom-up, and a fourth level of half the
// last one's size, rounded up. Official reppan.py, Lite_EffiNeck.
class LiteNeck : public Neck {
 public:
  LiteNeck(const Yolov6Config& config, Rng& rng);
  std::vector<Variable> forward(const std::vector<Variable>& features) const override;

 private:
  std::shared_ptr<ConvBNAct> reduce0_, reduce1_, reduce2_;
  std::shared_ptr<CSPBlock> csp_p4_, csp_p3_, csp_n3_, csp_n4_;
  std::shared_ptr<DPBlock> down2_, down1_, p6_1_, p6_2_;
};

}  // namespace sextant
