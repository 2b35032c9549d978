#include "models/head.h"

#include <cmath>

#include "core/trace.h"
#include "layers/autocast.h"
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
  // proj and proj_conv are in every official model, with reg_max 0 too (then 17 entries, unused).
  const int64_t bins = (config.reg_max > 0 ? config.reg_max : 16) + 1;
  Tensor proj(Shape{bins});
  for (int64_t i = 0; i < bins; ++i) proj.f32()[i] = static_cast<float>(i);
  register_parameter("proj", proj).set_requires_grad(false);
  register_parameter("proj_conv.weight", proj.clone().reshape(Shape{1, 1, 1, bins}), Layout::kConv)
      .set_requires_grad(false);

  const auto convs = [&](const char* name, int64_t kernel) {
    auto list = register_module(name, std::make_shared<Sequence>());
    std::vector<std::shared_ptr<ConvBNAct>> out;
    for (const int64_t c : config.in_channels)
      out.push_back(
          list->push(std::make_shared<ConvBNAct>(c, c, kernel, 1, Activation::kSiLU, rng)));
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
  check(anchors >= 1 && anchors <= kernels::kMaxAnchors, "EffiDeHead: {} anchors a level, 1 to {}",
        anchors, kernels::kMaxAnchors);
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
    // The loss wants f32 whatever the layers run in.
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

// What backward needs to know of decode's inputs.
struct DecodeSaved {
  Tensor pred;
  // Of the inputs: logits, distances and, where there is one, objectness of each level in turn.
  std::vector<Shape> shapes;
  size_t maps = 2;          // a level
  std::vector<Tensor> reg;  // the raw distributions; only with reg_max
  std::vector<int64_t> strides;
  int64_t reg_max = 0;
};

// Gradient of one distance with respect to its distribution: p_j (j - mean).
void distribution_backward(const float* logits, float gradient, int64_t bins, float* out) {
  float mean = 0;
  kernels::cpu::expectation(kernels::Expectation<float>{logits, out, &mean, 1, bins});
  for (int64_t j = 0; j < bins; ++j) out[j] *= gradient * (static_cast<float>(j) - mean);
}

// Gradient of the decoded rows with respect to one level's maps, on the host: no training goes
// through decoded rows. dobj is undefined without objectness.
void decode_backward(const DecodeSaved& s, const Tensor& pred, const Tensor& dy, size_t level,
                     int64_t first, const Tensor& dcls, const Tensor& dreg, const Tensor& dobj) {
  const auto stride = static_cast<float>(s.strides[level]);
  const int64_t cells = dcls.dim(1) * dcls.dim(2), anchors = pred.dim(1), row = pred.dim(2);
  const int64_t classes = row - 5, bins = s.reg_max + 1;
  const Tensor reg = s.reg.empty() ? Tensor() : s.reg[level].to(Device::kCpu);
  for (int64_t n = 0; n < pred.dim(0); ++n)
    for (int64_t i = 0; i < cells; ++i) {
      const float* g = dy.f32() + (n * anchors + first + i) * row;
      const float* p = pred.f32() + (n * anchors + first + i) * row;
      float d[4];
      for (int k = 0; k < 2; ++k) {  // centre = cell + (high - low) / 2, size = low + high
        d[k] = stride * (g[2 + k] - 0.5f * g[k]);
        d[2 + k] = stride * (g[2 + k] + 0.5f * g[k]);
      }
      const int64_t at = (n * cells + i) * 4 * bins;
      for (int64_t k = 0; k < 4; ++k)
        if (bins == 1)
          dreg.f32()[at + k] = d[k];
        else
          distribution_backward(reg.f32() + at + k * bins, d[k], bins, dreg.f32() + at + k * bins);
      if (dobj.defined()) dobj.f32()[n * cells + i] = g[4] * p[4] * (1.0f - p[4]);
      for (int64_t c = 0; c < classes; ++c)
        dcls.f32()[(n * cells + i) * classes + c] = g[5 + c] * p[5 + c] * (1.0f - p[5 + c]);
    }
}

}  // namespace

Variable EffiDeHead::decode(const HeadOutput& output) const {
  const std::vector<Variable>& distances = output.reg_lrtb.empty() ? output.reg : output.reg_lrtb;
  DecodeSaved saved;
  saved.strides = config_.strides;
  saved.reg_max = output.reg_lrtb.empty() ? config_.reg_max : 0;
  kernels::Decode p;
  p.levels = static_cast<int>(config_.strides.size());
  p.batch = output.cls_logits[0].dim(0);
  p.classes = config_.num_classes;
  p.reg_max = saved.reg_max;
  std::vector<Variable> inputs;
  for (size_t l = 0; l < config_.strides.size(); ++l) {
    const Variable &cls = output.cls_logits[l], &reg = distances[l];
    p.level[l] = {cls.f32(), reg.f32(), cls.dim(1), cls.dim(2),
                  static_cast<float>(config_.strides[l])};
    std::vector<Variable> maps{cls, reg};
    if (!output.objectness.empty()) {
      maps.push_back(output.objectness[l]);
      p.level[l].obj = maps.back().f32();
    }
    saved.maps = maps.size();
    for (const Variable& v : maps) {
      inputs.push_back(v);
      saved.shapes.push_back(v.shape());
    }
    if (p.reg_max > 0) saved.reg.push_back(reg.data());
  }
  saved.pred = like(inputs[0].data(), Shape{p.batch, p.anchors(), 5 + p.classes});
  kernels_for("decode", inputs[0], inputs).decode(p, saved.pred.f32());
  const Tensor pred = saved.pred;
  Variable out = make_result(
      "detect_decode", pred, inputs,
      [saved = std::move(saved)](const Tensor& dy, const std::vector<bool>&) {
        std::vector<Tensor> grads;
        const Tensor pred_host = saved.pred.to(Device::kCpu), dy_host = dy.to(Device::kCpu);
        int64_t first = 0;
        for (size_t l = 0; l < saved.strides.size(); ++l) {
          std::vector<Tensor> d;
          for (size_t m = 0; m < saved.maps; ++m) d.emplace_back(saved.shapes[saved.maps * l + m]);
          decode_backward(saved, pred_host, dy_host, l, first, d[0], d[1],
                          saved.maps > 2 ? d[2] : Tensor());
          first += d[0].dim(1) * d[0].dim(2);
          for (const Tensor& t : d) grads.push_back(t.to(dy.device()));
        }
        return grads;
      });
  if (trace::active())
    trace::record({"detect_decode",
                   inputs,
                   out,
                   {{"strides", config_.strides},
                    {"num_classes", config_.num_classes},
                    {"reg_max", p.reg_max},
                    {"grid_cell_offset", 0.5},
                    {"objectness", !output.objectness.empty()}}});
  return out;
}

}  // namespace sextant
