// SPDX-License-Identifier: Apache-2.0
// The decoupled head (EffiDeHead): per level a 1x1 stem, then a class and a box branch of one 3x3
// convolution and one 1x1 prediction each. Official yolov6/models/effidehead.py; with anchors
// effidehead_fuseab.py, with distill_ns effidehead_distill_ns.py. With objectness there is a third
// prediction, from the box branch, as in YOLOX and the first YOLOv6. The Lite form
// (heads/effidehead_lite.py) has a DPBlock of kernel 5 for each of these three convolutions.
#pragma once

#include <memory>
#include <vector>

#include "layers/blocks.h"

namespace sextant {

struct HeadConfig {
  std::vector<int64_t> in_channels;  // per level
  int64_t num_classes = 80;
  int64_t reg_max = 0;           // 0: four plain distances
  std::vector<int64_t> strides;  // per level, pixels per cell
  // fuse_ab: w, h in pixels of each anchor, per level; empty: no anchor-based branch.
  std::vector<std::vector<double>> anchors;
  // An extra branch with plain distances, which is the one decoded; the branch with reg_max is only
  // for training.
  bool distill_ns = false;
  bool objectness = false;  // predicts from the box branch whether there is an object at all
  bool lite = false;
  Activation activation = Activation::kSiLU;
  int64_t size_multiple = 0;  // of image sides; 0: the largest stride
};

struct HeadOutput {
  std::vector<Variable> cls_logits;  // per level [N,H,W,num_classes], before the sigmoid
  std::vector<Variable> reg;         // per level [N,H,W,4*(reg_max+1)], distances in cells
  // Anchor-based branch, if there is one: per level [N,H,W,a*num_classes] before the sigmoid, and
  // [N,H,W,a*4], with a anchors per level and all channels of one anchor together. The four values
  // are the offset of the box center from the cell's point, and width and height, in cells.
  std::vector<Variable> cls_logits_ab, reg_ab;
  std::vector<Variable> reg_lrtb;    // with distill_ns: per level [N,H,W,4], distances in cells
  std::vector<Variable> objectness;  // with objectness: per level [N,H,W,1], before the sigmoid
};

class EffiDeHead : public Module {
 public:
  EffiDeHead(const HeadConfig& config, Rng& rng);
  HeadOutput forward(const std::vector<Variable>& features) const;
  // Boxes in pixels and scores of the anchor-free branch (reg_lrtb where there is one):
  // [N, A, 5 + num_classes], rows cx cy w h objectness (1 without) scores;
  // kernels/detection/decode.h.
  Variable decode(const HeadOutput& output) const;

 private:
  using Predictions = std::vector<std::shared_ptr<Conv2d>>;
  HeadConfig config_;
  std::vector<std::shared_ptr<Layer>> stems_, cls_convs_, reg_convs_;
  Predictions cls_, reg_, cls_ab_, reg_ab_, lrtb_, obj_;
};

}  // namespace sextant
