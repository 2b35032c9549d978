// SPDX-License-Identifier: Apache-2.0
// YOLOv6: backbone, neck and decoupled head.
#pragma once

#include <memory>
#include <vector>

#include "models/backbone.h"
#include "models/head.h"
#include "models/neck.h"

namespace sextant {

class Yolov6 : public Module {
 public:
  // Weights initialized from `seed` as PyTorch's defaults and the official head do.
  Yolov6(const Yolov6Config& config, uint64_t seed);

  struct Features {
    std::vector<Variable> backbone, neck;
    HeadOutput head;
  };
  // x [N,H,W,3] f32 RGB in 0..1, H and W multiples of the config's size_multiple() (throws
  // otherwise).
  Features forward_features(const Variable& x) const;
  HeadOutput forward(const Variable& x) const { return forward_features(x).head; }
  // Decoded predictions [N, A, 5 + num_classes].
  Variable predict(const Variable& x) const { return head_->decode(forward(x)); }
  const EffiDeHead& head() const { return *head_; }
  const Yolov6Config& config() const { return config_; }

 private:
  Yolov6Config config_;
  std::shared_ptr<Backbone> backbone_;
  std::shared_ptr<Neck> neck_;
  std::shared_ptr<EffiDeHead> head_;
};

}  // namespace sextant
