// SPDX-License-Identifier: Apache-2.0
#include "models/yolov6.h"

#include "core/profile_range.h"

namespace sextant {

Yolov6::Yolov6(const Yolov6Config& config, uint64_t seed) : config_(config) {
  Rng rng(seed, 0x6d6f64656c);  // its own stream ("model")
  backbone_ = register_module("backbone", make_backbone(config, rng));
  neck_ = register_module("neck", make_neck(config, rng));
  HeadConfig head;
  head.in_channels = neck_->out_channels();
  head.num_classes = config.num_classes;
  head.reg_max = config.use_dfl ? config.reg_max : 0;
  head.strides = config.strides();
  head.distill_ns = config.distill_ns;
  head.objectness = config.objectness;
  head.lite = config.lite();
  head.activation = head.lite ? config.block().act : Activation::kSiLU;
  if (config.size_multiple() != head.strides.back()) head.size_multiple = config.size_multiple();
  if (config.fuse_ab) head.anchors = config.anchors;
  head_ = register_module("detect", std::make_shared<EffiDeHead>(head, rng));
}

Yolov6::Features Yolov6::forward_features(const Variable& x) const {
  const int64_t multiple = config_.size_multiple();
  check(x.shape().rank() == 4 && x.dim(3) == 3 && x.dim(1) % multiple == 0 &&
            x.dim(2) % multiple == 0,
        "yolov6: input {} must be [N,H,W,3] with H and W multiples of {}", x.shape().str(),
        multiple);
  const ProfileRange range("forward");
  Features f;
  {
    const ProfileRange part("backbone");
    f.backbone = backbone_->forward(x);
  }
  {
    const ProfileRange part("neck");
    f.neck = neck_->forward(f.backbone);
  }
  const ProfileRange part("head");
  f.head = head_->forward(f.neck);
  return f;
}

}  // namespace sextant
