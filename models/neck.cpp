// SPDX-License-Identifier: Apache-2.0
#include "models/neck.h"

namespace sextant {

std::shared_ptr<Neck> make_neck(const Yolov6Config& config, Rng& rng) {
  if (config.lite()) return std::make_shared<LiteNeck>(config, rng);
  if (config.neck == NeckKind::kRepPAN) return std::make_shared<RepPANNeck>(config, rng);
  return std::make_shared<RepBiFPANNeck>(config, rng);
}

RepPANNeck::RepPANNeck(const Yolov6Config& c, Rng& rng) {
  const auto backbone = [&](size_t i) { return c.channels(c.backbone_channels[i]); };
  const auto neck = [&](size_t i) { return c.channels(c.neck_channels[i]); };
  const auto rep = [&](const char* name, int64_t in, int64_t out, size_t i) {
    return register_module(name,
                           make_stage(c.neck_stage(), in, out, c.repeats(c.neck_repeats[i]), rng));
  };
  const auto conv = [&](const char* name, int64_t in, int64_t out, int64_t k, int64_t stride) {
    return register_module(
        name, std::make_shared<ConvBNAct>(in, out, k, stride, c.neck_activation(), rng));
  };
  rep_p4_ = rep("Rep_p4", backbone(3) + neck(0), neck(0), 0);
  rep_p3_ = rep("Rep_p3", backbone(2) + neck(1), neck(1), 1);
  rep_n3_ = rep("Rep_n3", neck(1) + neck(2), neck(3), 2);
  rep_n4_ = rep("Rep_n4", neck(0) + neck(4), neck(5), 3);
  reduce0_ = conv("reduce_layer0", backbone(4), neck(0), 1, 1);
  up0_ = register_module("upsample0", std::make_shared<Transpose>(neck(0), neck(0), rng));
  reduce1_ = conv("reduce_layer1", neck(0), neck(1), 1, 1);
  up1_ = register_module("upsample1", std::make_shared<Transpose>(neck(1), neck(1), rng));
  down2_ = conv("downsample2", neck(1), neck(2), 3, 2);
  down1_ = conv("downsample1", neck(3), neck(4), 3, 2);
  out_channels_ = {neck(1), neck(3), neck(5)};
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

RepBiFPANNeck::RepBiFPANNeck(const Yolov6Config& c, Rng& rng) {
  const auto backbone = [&](size_t i) { return c.channels(c.backbone_channels[i]); };
  const auto neck = [&](size_t i) { return c.channels(c.neck_channels[i]); };
  size_t stages = 0;  // in the order of neck_repeats
  const auto stage = [&](const std::string& name, int64_t in, int64_t out) {
    const int64_t n = c.repeats(c.neck_repeats[stages++]);
    return register_module(name, make_stage(c.neck_stage(), in, out, n, rng));
  };
  const auto conv = [&](const std::string& name, int64_t in, int64_t out, int64_t kernel,
                        int64_t stride) {
    return register_module(
        name, std::make_shared<ConvBNAct>(in, out, kernel, stride, c.neck_activation(), rng));
  };
  const size_t steps = c.strides().size() - 1;  // up, and down again
  const size_t deepest = c.backbone_channels.size() - 1;
  std::vector<int64_t> width;  // of each reduced map
  for (size_t i = 0; i < steps; ++i) {
    const std::string number = std::to_string(i);
    const int64_t out = neck(i), from = i == 0 ? backbone(deepest) : neck(i - 1);
    Up up;
    up.reduce = conv("reduce_layer" + number, from, out, 1, 1);
    up.fuse = register_module(
        "Bifusion" + number,
        std::make_shared<BiFusion>(backbone(deepest - 1 - i), backbone(deepest - 2 - i), out,
                                   c.neck_activation(), rng));
    up.stage = stage("Rep_p" + std::to_string(steps + 2 - i), out, out);
    ups_.push_back(std::move(up));
    width.push_back(out);
  }
  out_channels_ = {width.back()};
  // With three levels, neck_channels lists a downsampling convolution and the stage after it; with
  // four, the stage alone. The official names count differently too.
  size_t next = steps;
  for (size_t i = 0; i < steps; ++i) {
    const int64_t from = out_channels_.back();
    const int64_t middle = c.p6() ? from : neck(next++);
    const int64_t out = neck(next++);
    Down down;
    down.down = conv("downsample" + std::to_string(2 - i), from, middle, 3, 2);
    down.stage =
        stage("Rep_n" + std::to_string((c.p6() ? 4 : 3) + i), middle + width[steps - 1 - i], out);
    downs_.push_back(std::move(down));
    out_channels_.push_back(out);
  }
}

std::vector<Variable> RepBiFPANNeck::forward(const std::vector<Variable>& f) const {
  std::vector<Variable> reduced;
  Variable v = f.back();
  for (size_t i = 0; i < ups_.size(); ++i) {
    reduced.push_back(ups_[i].reduce->forward(v));
    const size_t middle = f.size() - 2 - i;
    v = ups_[i].stage->forward(ups_[i].fuse->forward(reduced.back(), f[middle], f[middle - 1]));
  }
  std::vector<Variable> out{v};
  for (size_t i = 0; i < downs_.size(); ++i) {
    const Variable& across = reduced[reduced.size() - 1 - i];
    out.push_back(downs_[i].stage->forward(concat({downs_[i].down->forward(out.back()), across})));
  }
  return out;
}

LiteNeck::LiteNeck(const Yolov6Config& c, Rng& rng) {
  constexpr int64_t kKernel = 5;
  const Activation act = c.neck_activation();
  const int64_t width = c.neck_channels[0];
  const auto reduce = [&](const char* name, size_t stage) {
    return register_module(
        name, std::make_shared<ConvBNAct>(c.lite_channels(c.backbone_channels[stage]), width, 1, 1,
                                          act, rng));
  };
  const auto csp = [&](const char* name) {
    return register_module(name, std::make_shared<CSPBlock>(2 * width, width, kKernel, act, rng));
  };
  const auto down = [&](const char* name) {
    return register_module(name, std::make_shared<DPBlock>(width, width, kKernel, 2, act, rng));
  };
  reduce0_ = reduce("reduce_layer0", 4);
  reduce1_ = reduce("reduce_layer1", 3);
  reduce2_ = reduce("reduce_layer2", 2);
  csp_p4_ = csp("Csp_p4");
  csp_p3_ = csp("Csp_p3");
  csp_n3_ = csp("Csp_n3");
  csp_n4_ = csp("Csp_n4");
  down2_ = down("downsample2");
  down1_ = down("downsample1");
  p6_1_ = down("p6_conv_1");
  p6_2_ = down("p6_conv_2");
  out_channels_.assign(4, width);
}

std::vector<Variable> LiteNeck::forward(const std::vector<Variable>& f) const {
  const Variable r5 = reduce0_->forward(f[2]);
  const Variable r4 = reduce1_->forward(f[1]);
  const Variable r3 = reduce2_->forward(f[0]);
  const Variable m4 = csp_p4_->forward(concat({upsample_nearest(r5, 2), r4}));
  const Variable p3 = csp_p3_->forward(concat({upsample_nearest(m4, 2), r3}));
  const Variable p4 = csp_n3_->forward(concat({down2_->forward(p3), m4}));
  const Variable p5 = csp_n4_->forward(concat({down1_->forward(p4), r5}));
  return {p3, p4, p5, add(p6_1_->forward(r5), p6_2_->forward(p5))};
}

}  // namespace sextant
