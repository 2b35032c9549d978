// The decoupled head (EffiDeHead): per level a 1x1 stem, then a class and a box branch of one 3x3
// convolution and one 1x1 prediction each. Official yolov6/models/effidehead.py.
#pragma once

#include <memory>
#include <vector>

#include "layers/blocks.h"

namespace sextant {

struct HeadOutput {
  std::vector<Variable> cls_logits;  // per level [N,H,W,num_classes], before the sigmoid
  std::vector<Variable> reg;         // per level [N,H,W,4*(reg_max+1)], distances in cells
};

class EffiDeHead : public Module {
 public:
  EffiDeHead(const std::vector<int64_t>& in_channels, int64_t num_classes, int64_t reg_max,
             std::vector<int64_t> strides, Rng& rng);
  HeadOutput forward(const std::vector<Variable>& features) const;
  // Boxes in pixels and scores: [N, A, 5 + num_classes], rows cx cy w h 1 scores; kernels/decode.h.
  // Differentiable for reg_max 0 only (throws otherwise when a gradient is wanted).
  Variable decode(const HeadOutput& output) const;

 private:
  std::vector<std::shared_ptr<ConvBNAct>> stems_, cls_convs_, reg_convs_;
  std::vector<std::shared_ptr<Conv2d>> cls_preds_, reg_preds_;
  int64_t num_classes_, reg_max_;
  std::vector<int64_t> strides_;
};

}  // namespace sextant
