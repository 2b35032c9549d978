#include "models/yolov6.h"

namespace sextant {

EfficientRep::EfficientRep(const Yolov6Config& c, Rng& rng) {
  const auto channels = [&](size_t i) { return c.channels(c.backbone_channels[i]); };
  stem_ = register_module("stem", std::make_shared<RepVGGBlock>(3, channels(0), 2, rng));
  for (size_t i = 1; i < c.backbone_channels.size(); ++i) {
    auto stage = register_module("ERBlock_" + std::to_string(i + 1), std::make_shared<Sequence>());
    down_.push_back(
        stage->push(std::make_shared<RepVGGBlock>(channels(i - 1), channels(i), 2, rng)));
    blocks_.push_back(stage->push(std::make_shared<RepBlock>(
        channels(i), channels(i), c.repeats(c.backbone_repeats[i]), rng)));
    if (i + 1 == c.backbone_channels.size())
      sppf_ =
          stage->push(std::make_shared<SimSPPF>(channels(i), channels(i), Activation::kReLU, rng));
  }
}

std::vector<Variable> EfficientRep::forward(const Variable& x) const {
  std::vector<Variable> out;
  Variable v = stem_->forward(x);
  for (size_t i = 0; i < down_.size(); ++i) {
    v = blocks_[i]->forward(down_[i]->forward(v));
    if (i + 1 == down_.size()) v = sppf_->forward(v);
    if (i > 0) out.push_back(v);
  }
  return out;
}

RepPANNeck::RepPANNeck(const Yolov6Config& c, Rng& rng) {
  const auto backbone = [&](size_t i) { return c.channels(c.backbone_channels[i]); };
  const auto neck = [&](size_t i) { return c.channels(c.neck_channels[i]); };
  const auto repeats = [&](size_t i) { return c.repeats(c.neck_repeats[i]); };
  const auto rep = [&](const char* name, int64_t in, int64_t out, int64_t n) {
    return register_module(name, std::make_shared<RepBlock>(in, out, n, rng));
  };
  const auto conv = [&](const char* name, int64_t in, int64_t out, int64_t k, int64_t stride) {
    return register_module(name,
                           std::make_shared<ConvBNAct>(in, out, k, stride, Activation::kReLU, rng));
  };
  rep_p4_ = rep("Rep_p4", backbone(3) + neck(0), neck(0), repeats(0));
  rep_p3_ = rep("Rep_p3", backbone(2) + neck(1), neck(1), repeats(1));
  rep_n3_ = rep("Rep_n3", neck(1) + neck(2), neck(3), repeats(2));
  rep_n4_ = rep("Rep_n4", neck(0) + neck(4), neck(5), repeats(3));
  reduce0_ = conv("reduce_layer0", backbone(4), neck(0), 1, 1);
  up0_ = register_module("upsample0", std::make_shared<Transpose>(neck(0), neck(0), rng));
  reduce1_ = conv("reduce_layer1", neck(0), neck(1), 1, 1);
  up1_ = register_module("upsample1", std::make_shared<Transpose>(neck(1), neck(1), rng));
  down2_ = conv("downsample2", neck(1), neck(2), 3, 2);
  down1_ = conv("downsample1", neck(3), neck(4), 3, 2);
}

std::vector<Variable> RepPANNeck::forward(const std::vector<Variable>& f) const {
  const Variable fpn0 = reduce0_->forward(f[2]);
  const Variable f0 = rep_p4_->forward(concat({up0_->forward(fpn0), f[1]}));
  const Variable fpn1 = reduce1_->forward(f0);
  const Variable pan2 = rep_p3_->forward(concat({up1_->forward(fpn1), f[0]}));
  const Variable pan1 = rep_n3_->forward(concat({down2_->forward(pan2), fpn1}));
  const Variable pan0 = rep_n4_->forward(concat({down1_->forward(pan1), fpn0}));
  return {pan2, pan1, pan0};
}

Yolov6::Yolov6(const Yolov6Config& config, uint64_t seed) : config_(config) {
  Rng rng(seed, 0x6d6f64656c);  // a stream of its own ("model")
  backbone_ = register_module("backbone", std::make_shared<EfficientRep>(config, rng));
  neck_ = register_module("neck", std::make_shared<RepPANNeck>(config, rng));
  const auto c = [&](size_t i) { return config.channels(config.neck_channels[i]); };
  head_ = register_module("detect", std::make_shared<EffiDeHead>(
                                        std::vector<int64_t>{c(1), c(3), c(5)}, config.num_classes,
                                        config.use_dfl ? config.reg_max : 0,
                                        std::vector<int64_t>(std::begin(Yolov6Config::kStrides),
                                                             std::end(Yolov6Config::kStrides)),
                                        rng));
}

Yolov6::Features Yolov6::forward_features(const Variable& x) const {
  check(x.shape().rank() == 4 && x.dim(3) == 3 && x.dim(1) % 32 == 0 && x.dim(2) % 32 == 0,
        "yolov6: input {} must be [N,H,W,3] with H and W multiples of 32", x.shape().str());
  Features f;
  f.backbone = backbone_->forward(x);
  f.neck = neck_->forward(f.backbone);
  f.head = head_->forward(f.neck);
  return f;
}

}  // namespace sextant
