// YOLOv6 with EfficientRep backbone, RepPAN neck and decoupled head.
#pragma once

#include <memory>
#include <vector>

#include "models/head.h"
#include "models/yolov6_config.h"

namespace sextant {

// Stem and four stages; returns the maps of stride 8, 16, 32. Official efficientrep.py.
class EfficientRep : public Module {
 public:
  EfficientRep(const Yolov6Config& config, Rng& rng);
  std::vector<Variable> forward(const Variable& x) const;

 private:
  std::shared_ptr<RepVGGBlock> stem_;
  std::vector<std::shared_ptr<RepVGGBlock>> down_;
  std::vector<std::shared_ptr<RepBlock>> blocks_;
  std::shared_ptr<SimSPPF> sppf_;
};

// Top-down, then bottom-up fusion of the three maps. Official reppan.py, RepPANNeck.
class RepPANNeck : public Module {
 public:
  RepPANNeck(const Yolov6Config& config, Rng& rng);
  std::vector<Variable> forward(const std::vector<Variable>& features) const;

 private:
  std::shared_ptr<RepBlock> rep_p4_, rep_p3_, rep_n3_, rep_n4_;
  std::shared_ptr<ConvBNAct> reduce0_, reduce1_, down2_, down1_;
  std::shared_ptr<Transpose> up0_, up1_;
};

class Yolov6 : public Module {
 public:
  // Weights initialised from `seed` as PyTorch's defaults and the official head do.
  Yolov6(const Yolov6Config& config, uint64_t seed);

  struct Features {
    std::vector<Variable> backbone, neck;
    HeadOutput head;
  };
  // x [N,H,W,3] f32 RGB in 0..1, H and W multiples of 32 (throws otherwise).
  Features forward_features(const Variable& x) const;
  HeadOutput forward(const Variable& x) const { return forward_features(x).head; }
  // Decoded predictions [N, A, 5 + num_classes].
  Variable predict(const Variable& x) const { return head_->decode(forward(x)); }
  const EffiDeHead& head() const { return *head_; }
  const Yolov6Config& config() const { return config_; }

 private:
  Yolov6Config config_;
  std::shared_ptr<EfficientRep> backbone_;
  std::shared_ptr<RepPANNeck> neck_;
  std::shared_ptr<EffiDeHead> head_;
};

}  // namespace sextant
