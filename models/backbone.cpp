// SPDX-License-Identifier: Apache-2.0
#include "models/backbone.h"

#include "layers/lite_blocks.h"

namespace sextant {

std::shared_ptr<Backbone> make_backbone(const Yolov6Config& config, Rng& rng) {
  if (config.lite()) return std::make_shared<LiteBackbone>(config, rng);
  return std::make_shared<EfficientBackbone>(config, rng);
}

EfficientBackbone::EfficientBackbone(const Yolov6Config& c, Rng& rng) : fuse_p2_(c.fuse_p2()) {
  const auto channels = [&](size_t i) { return c.channels(c.backbone_channels[i]); };
  const StageStyle style = c.backbone_stage();
  stem_ = register_module("stem", make_block(style.block, 3, channels(0), 2, rng));
  const size_t count = c.backbone_channels.size();
  for (size_t i = 1; i < count; ++i) {
    auto stage = register_module("ERBlock_" + std::to_string(i + 1), std::make_shared<Sequence>());
    stage->push(make_block(style.block, channels(i - 1), channels(i), 2, rng));
    stage->push(make_stage(style, channels(i), channels(i), c.repeats(c.backbone_repeats[i]), rng));
    stages_.push_back(stage);
  }
  const int64_t last = channels(count - 1);
  if (c.cspsppf)
    stages_.back()->push(std::make_shared<CSPSPPF>(last, last, style.block.act, rng));
  else
    stages_.back()->push(std::make_shared<SimSPPF>(last, last, style.block.act, rng));
}

std::vector<Variable> EfficientBackbone::forward(const Variable& x) const {
  std::vector<Variable> out;
  Variable v = stem_->forward(x);
  for (size_t i = 0; i < stages_.size(); ++i) {
    v = stages_[i]->forward(v);
    if (i > 0 || fuse_p2_) out.push_back(v);
  }
  return out;
}

LiteBackbone::LiteBackbone(const Yolov6Config& c, Rng& rng) {
  const Activation act = c.block().act;
  int64_t channels = c.backbone_channels[0];
  stem_ = register_module("conv_0", std::make_shared<ConvBNAct>(3, channels, 3, 2, act, rng));
  for (size_t i = 1; i < c.backbone_channels.size(); ++i) {
    auto stage =
        register_module("lite_effiblock_" + std::to_string(i), std::make_shared<Sequence>());
    const int64_t out = c.lite_channels(c.backbone_channels[i]);
    const int64_t middle = c.lite_middle(c.backbone_channels[i]);
    stage->push(std::make_shared<LiteEffiBlockS2>(channels, out, middle, act, rng));
    for (int64_t n = c.repeats(c.backbone_repeats[i - 1]); n > 1; --n)
      stage->push(std::make_shared<LiteEffiBlockS1>(out, middle, act, rng));
    stages_.push_back(stage);
    channels = out;
  }
}

std::vector<Variable> LiteBackbone::forward(const Variable& x) const {
  std::vector<Variable> out;
  Variable v = stem_->forward(x);
  for (size_t i = 0; i < stages_.size(); ++i) {
    v = stages_[i]->forward(v);
    if (i > 0) out.push_back(v);
  }
  return out;
}

}  // namespace sextant
