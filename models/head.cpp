// SPDX-License-Identifier: Apache-2.0
#include "models/head.h"

#include <cmath>

#include "core/trace.h"
#include "layers/autocast.h"
#include "layers/lite_blocks.h"
#include "layers/placement.h"

namespace sextant {

EffiDeHead::EffiDeHead(const HeadConfig& config, Rng& rng) : config_(config) {
  const size_t levels = config.strides.size();
  check(config.in_channels.size() == levels && levels >= 1 && levels <= kernels::kMaxLevels,
        "EffiDeHead: {} inputs for {} strides", config.in_channels.size(), levels);
  check(config.anchors.empty() || config.anchors.size() == levels,
        "EffiDeHead: anchors of {} levels for {} strides", config.anchors.size(), levels);
  for (const auto& sides : config.anchors)
    check(sides.size() == config.anchors[0].size(), "EffiDeHead: {} and {} sides of anchors",
          config.anchors[0].size(), sides.size());
  // proj and proj_conv are in every official model but Lite, even with reg_max 0 (17 unused entries).
  const int64_t bins = (config.reg_max > 0 ? config.reg_max : 16) + 1;
  Tensor proj(Shape{bins});
  for (int64_t i = 0; i < bins; ++i) proj.f32()[i] = static_cast<float>(i);
  if (!config.lite) {
    register_parameter("proj", proj).set_requires_grad(false);
    register_parameter("proj_conv.weight", proj.clone().reshape(Shape{1, 1, 1, bins}),
                       Layout::kConv)
        .set_requires_grad(false);
  }

  const auto convs = [&](const char* name, int64_t kernel) {
    auto list = register_module(name, std::make_shared<Sequence>());
    std::vector<std::shared_ptr<Layer>> out;
    for (const int64_t c : config.in_channels) {
      if (config.lite)
        out.push_back(list->push(std::make_shared<DPBlock>(c, c, 5, 1, config.activation, rng)));
      else
        out.push_back(
            list->push(std::make_shared<ConvBNAct>(c, c, kernel, 1, config.activation, rng)));
    }
    return out;
  };
  const auto predictions = [&](const char* name, int64_t out, float bias) {
    auto list = register_module(name, std::make_shared<Sequence>());
    Predictions made;
    for (const int64_t c : config.in_channels) {
      auto m = list->push(std::make_shared<Conv2d>(c, out, 1, ConvParams{}, true, rng));
      m->weight.data().fill_zero();
      for (float& b : m->bias.data().span<float>()) b = bias;
      made.push_back(std::move(m));
    }
    return made;
  };
  const float prior = -std::log(99.0f);  // 1% for each class: -log((1 - p) / p)
  stems_ = convs("stems", 1);
  cls_convs_ = convs("cls_convs", 3);
  reg_convs_ = convs("reg_convs", 3);
  cls_ = predictions("cls_preds", config.num_classes, prior);
  reg_ = predictions(config.distill_ns ? "reg_preds_dist" : "reg_preds", 4 * (config.reg_max + 1),
                     1.0f);
  if (config.distill_ns) lrtb_ = predictions("reg_preds", 4, 1.0f);
  if (config.objectness) obj_ = predictions("obj_preds", 1, prior);
  if (config.anchors.empty()) return;
  const auto anchors = static_cast<int64_t>(config.anchors[0].size()) / 2;
  check(anchors >= 1 && anchors <= kernels::kMaxAnchors,
        "EffiDeHead: {} anchors per level, 1 to {}", anchors, kernels::kMaxAnchors);
  cls_ab_ = predictions("cls_preds_ab", anchors * config.num_classes, prior);
  reg_ab_ = predictions("reg_preds_ab", anchors * 4, 1.0f);
}

namespace {

// Channels 2 and 3 of each anchor become (2 sigmoid(v))^2 times the anchor's side in cells.
Variable anchor_boxes(const Variable& x, const std::vector<double>& sides, int64_t stride) {
  kernels::AnchorBoxes form{.rows = x.data().numel() / x.dim(3), .anchors = x.dim(3) / 4};
  for (size_t i = 0; i < sides.size(); ++i)
    form.side[i] = static_cast<float>(sides[i] / static_cast<double>(stride));
  const Tensor y = like(x.data());
  const auto with = [form](const Tensor& in, const float* dy, const Tensor& out) {
    kernels::AnchorBoxes p = form;
    p.x = in.f32();
    p.dy = dy;
    p.out = out.f32();
    return p;
  };
  on(y).anchor_boxes_forward(with(x.data(), nullptr, y));
  return make_result("anchor_boxes", y, {x},
                     [with, saved = x.data()](const Tensor& dy, const std::vector<bool>&) {
                       const Tensor dx = like(dy);
                       on(dy).anchor_boxes_backward(with(saved, dy.f32(), dx));
                       return std::vector<Tensor>{dx};
                     });
}

}  // namespace

HeadOutput EffiDeHead::forward(const std::vector<Variable>& features) const {
  check(features.size() == stems_.size(), "EffiDeHead: {} features for {} levels", features.size(),
        stems_.size());
  HeadOutput out;
  for (size_t l = 0; l < stems_.size(); ++l) {
    const Variable x = stems_[l]->forward(features[l]);
    const Variable cls = cls_convs_[l]->forward(x), reg = reg_convs_[l]->forward(x);
    // The loss needs f32, whatever type the layers run in.
    const auto predict = [l](const Predictions& convs, const Variable& v) {
      return cast(convs[l]->forward(v), DType::kF32);
    };
    out.cls_logits.push_back(predict(cls_, cls));
    out.reg.push_back(predict(reg_, reg));
    if (!lrtb_.empty()) out.reg_lrtb.push_back(predict(lrtb_, reg));
    if (!obj_.empty()) out.objectness.push_back(predict(obj_, reg));
    if (cls_ab_.empty()) continue;
    out.cls_logits_ab.push_back(predict(cls_ab_, cls));
    out.reg_ab.push_back(
        anchor_boxes(predict(reg_ab_, reg), config_.anchors[l], config_.strides[l]));
  }
  return out;
}

namespace {

// Decoded rows and what backward needs. Holds the maps that `decode` points into.
struct Decoded {
  kernels::HeadMaps head;
  std::vector<Tensor> maps;  // logits, distances and, where there is one, objectness of each level
  Tensor rows;
};

std::vector<Tensor> decode_backward(const Decoded& d, const Tensor& dy,
                                    const std::vector<bool>& needs) {
  std::vector<Tensor> grads;
  for (size_t i = 0; i < d.maps.size(); ++i) grads.push_back(needs[i] ? like(d.maps[i]) : Tensor());
  kernels::DecodeBackward p{d.head, d.rows.f32(), dy.f32(), {}};
  const auto levels = static_cast<size_t>(d.head.levels);
  const size_t maps = d.maps.size() / levels;
  const auto to = [&](size_t i) { return grads[i].defined() ? grads[i].f32() : nullptr; };
  for (size_t l = 0; l < levels; ++l)
    p.grad[l] = {to(maps * l), to(maps * l + 1), maps > 2 ? to(maps * l + 2) : nullptr};
  kernels::backend(dy.device()).decode_backward(p);
  return grads;
}

}  // namespace

Variable EffiDeHead::decode(const HeadOutput& output) const {
  const std::vector<Variable>& distances = output.reg_lrtb.empty() ? output.reg : output.reg_lrtb;
  Decoded saved;
  kernels::HeadMaps& p = saved.head;
  p.levels = static_cast<int>(config_.strides.size());
  p.batch = output.cls_logits[0].dim(0);
  p.classes = config_.num_classes;
  p.reg_max = output.reg_lrtb.empty() ? config_.reg_max : 0;
  std::vector<Variable> inputs;
  for (size_t l = 0; l < config_.strides.size(); ++l) {
    const Variable &cls = output.cls_logits[l], &reg = distances[l];
    p.level[l] = {cls.f32(), reg.f32(), cls.dim(1), cls.dim(2),
                  static_cast<float>(config_.strides[l])};
    inputs.insert(inputs.end(), {cls, reg});
    if (output.objectness.empty()) continue;
    inputs.push_back(output.objectness[l]);
    p.level[l].obj = inputs.back().f32();
  }
  const Tensor rows = like(inputs[0].data(), Shape{p.batch, p.anchors(), 5 + p.classes});
  const int64_t reg_max = p.reg_max;
  kernels_for("decode", inputs[0], inputs).decode({p, rows.f32()});
  for (const Variable& v : inputs) saved.maps.push_back(v.data());
  saved.rows = rows;
  Variable out =
      make_result("detect_decode", rows, inputs,
                  [saved = std::move(saved)](const Tensor& dy, const std::vector<bool>& needs) {
                    return decode_backward(saved, dy, needs);
                  });
  if (trace::active())
    trace::record({"detect_decode",
                   inputs,
                   out,
                   {{"strides", config_.strides},
                    {"num_classes", config_.num_classes},
                    {"reg_max", reg_max},
                    {"grid_cell_offset", 0.5},
                    {"objectness", !output.objectness.empty()},
                    {"size_multiple", config_.size_multiple}}});
  return out;
}

}  // namespace sextant
