#include "models/head.h"

#include <cmath>

#include "core/trace.h"
#include "kernels/decode.h"

namespace sextant {

EffiDeHead::EffiDeHead(const std::vector<int64_t>& in_channels, int64_t num_classes,
                       int64_t reg_max, std::vector<int64_t> strides, Rng& rng)
    : num_classes_(num_classes), reg_max_(reg_max), strides_(std::move(strides)) {
  check(in_channels.size() == strides_.size(), "EffiDeHead: {} inputs for {} strides",
        in_channels.size(), strides_.size());
  // proj and proj_conv are in every official model, with reg_max 0 too (then 17 entries, unused).
  const int64_t bins = (reg_max > 0 ? reg_max : 16) + 1;
  Tensor proj(Shape{bins});
  for (int64_t i = 0; i < bins; ++i) proj.f32()[i] = static_cast<float>(i);
  register_parameter("proj", proj).set_requires_grad(false);
  register_parameter("proj_conv.weight", proj.clone().reshape(Shape{1, 1, 1, bins}), Layout::kConv)
      .set_requires_grad(false);

  auto stems = register_module("stems", std::make_shared<Sequence>());
  auto cls_convs = register_module("cls_convs", std::make_shared<Sequence>());
  auto reg_convs = register_module("reg_convs", std::make_shared<Sequence>());
  auto cls_preds = register_module("cls_preds", std::make_shared<Sequence>());
  auto reg_preds = register_module("reg_preds", std::make_shared<Sequence>());
  const auto silu = Activation::kSiLU;
  for (const int64_t c : in_channels) {
    stems_.push_back(stems->push(std::make_shared<ConvBNAct>(c, c, 1, 1, silu, rng)));
    cls_convs_.push_back(cls_convs->push(std::make_shared<ConvBNAct>(c, c, 3, 1, silu, rng)));
    reg_convs_.push_back(reg_convs->push(std::make_shared<ConvBNAct>(c, c, 3, 1, silu, rng)));
    const auto prediction = [&](const std::shared_ptr<Sequence>& list, int64_t out, float bias) {
      auto m = list->push(std::make_shared<Conv2d>(c, out, 1, ConvParams{}, true, rng));
      m->weight.data().fill_zero();
      for (float& b : m->bias.data().span<float>()) b = bias;
      return m;
    };
    // A prior of 1% for each class: -log((1 - p) / p).
    cls_preds_.push_back(prediction(cls_preds, num_classes, -std::log(99.0f)));
    reg_preds_.push_back(prediction(reg_preds, 4 * (reg_max + 1), 1.0f));
  }
}

HeadOutput EffiDeHead::forward(const std::vector<Variable>& features) const {
  check(features.size() == stems_.size(), "EffiDeHead: {} features for {} levels", features.size(),
        stems_.size());
  HeadOutput out;
  for (size_t l = 0; l < stems_.size(); ++l) {
    const Variable x = stems_[l]->forward(features[l]);
    out.cls_logits.push_back(cls_preds_[l]->forward(cls_convs_[l]->forward(x)));
    out.reg.push_back(reg_preds_[l]->forward(reg_convs_[l]->forward(x)));
  }
  return out;
}

namespace {

// Gradient of the decoded rows with respect to one level's logits and distances.
void decode_backward(const Tensor& pred, const Tensor& dy, int64_t first, float stride,
                     int64_t classes, const Tensor& dcls, const Tensor& dreg) {
  const int64_t cells = dcls.dim(1) * dcls.dim(2), row = 5 + classes, anchors = pred.dim(1);
  for (int64_t n = 0; n < pred.dim(0); ++n)
    for (int64_t i = 0; i < cells; ++i) {
      const float* g = dy.f32() + (n * anchors + first + i) * row;
      const float* p = pred.f32() + (n * anchors + first + i) * row;
      float* d = dreg.f32() + (n * cells + i) * 4;
      for (int k = 0; k < 2; ++k) {  // centre = cell + (high - low) / 2, size = low + high
        d[k] = stride * (g[2 + k] - 0.5f * g[k]);
        d[2 + k] = stride * (g[2 + k] + 0.5f * g[k]);
      }
      for (int64_t c = 0; c < classes; ++c)
        dcls.f32()[(n * cells + i) * classes + c] = g[5 + c] * p[5 + c] * (1.0f - p[5 + c]);
    }
}

}  // namespace

Variable EffiDeHead::decode(const HeadOutput& output) const {
  kernels::Decode p;
  p.levels = static_cast<int>(strides_.size());
  p.batch = output.cls_logits[0].dim(0);
  p.classes = num_classes_;
  p.reg_max = reg_max_;
  std::vector<Variable> inputs;
  for (size_t l = 0; l < strides_.size(); ++l) {
    const Variable &cls = output.cls_logits[l], &reg = output.reg[l];
    p.level[l] = {cls.f32(), reg.f32(), cls.dim(1), cls.dim(2), static_cast<float>(strides_[l])};
    inputs.push_back(cls);
    inputs.push_back(reg);
  }
  const Tensor pred(Shape{p.batch, p.anchors(), 5 + num_classes_});
  kernels::cpu::decode(p, pred.f32());
  check(reg_max_ == 0 || !needs_grad(inputs), "detect_decode: no gradient with reg_max {}",
        reg_max_);
  std::vector<Shape> shapes;
  for (const auto& v : inputs) shapes.push_back(v.shape());
  Variable out = make_result("detect_decode", pred, inputs,
                             [pred, shapes, strides = strides_, classes = num_classes_](
                                 const Tensor& dy, const std::vector<bool>&) {
                               std::vector<Tensor> grads;
                               int64_t first = 0;
                               for (size_t l = 0; l < strides.size(); ++l) {
                                 const Tensor dcls(shapes[2 * l]), dreg(shapes[2 * l + 1]);
                                 decode_backward(pred, dy, first, static_cast<float>(strides[l]),
                                                 classes, dcls, dreg);
                                 first += dcls.dim(1) * dcls.dim(2);
                                 grads.push_back(dcls);
                                 grads.push_back(dreg);
                               }
                               return grads;
                             });
  if (trace::active())
    trace::record({"detect_decode",
                   inputs,
                   out,
                   {{"strides", strides_},
                    {"num_classes", num_classes_},
                    {"reg_max", reg_max_},
                    {"grid_cell_offset", 0.5}}});
  return out;
}

}  // namespace sextant
