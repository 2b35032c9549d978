#include "models/loss.h"

#include "core/parallel.h"
#include "kernels/anchors.h"
#include "models/loss_evaluation.h"

namespace sextant {
namespace {

using loss_detail::assign_boxes;
using loss_detail::evaluate_loss;
using loss_detail::LevelView;
using loss_detail::Predictions;
using loss_detail::read_targets;
using loss_detail::Truth;

LossItems evaluate(const LossConfig& config, const Predictions& pred, const Truth& truth) {
  return evaluate_loss(config, pred, truth, assign_boxes(config, pred, truth));
}

// The scalar, with gradients that were computed along with it.
LossResult finish(const LossItems& items, const std::vector<Variable>& inputs,
                  std::vector<Tensor> grads) {
  const Tensor value = Tensor::full({1}, static_cast<float>(items.cls + items.iou + items.dfl));
  const auto backward = [grads = std::move(grads)](const Tensor& grad, const std::vector<bool>&) {
    const auto scale = static_cast<float>(grad.item());
    if (scale == 1.0f) return grads;
    for (const Tensor& g : grads) {  // this runs once, so they can be scaled in place
      float* v = g.f32();
      parallel_for(g.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) v[i] *= scale;
      });
    }
    return grads;
  };
  return {make_result("detection_loss", value, inputs, backward), items};
}

void check_map(const Variable& v, const char* what, size_t level, int64_t channels) {
  check(v.defined() && v.data().dtype() == DType::kF32 && v.shape().rank() == 4 &&
            v.dim(3) == channels,
        "detection loss: {} of level {} is {}, expected F32 [N,H,W,{}]", what, level,
        v.defined() ? v.shape().str() : std::string("undefined"), channels);
}

}  // namespace

DetectionLoss::DetectionLoss(LossConfig config) : config_(std::move(config)) {
  check(!config_.strides.empty() && config_.strides.size() <= kernels::kMaxLevels,
        "detection loss: {} levels, must be 1 to {}", config_.strides.size(), kernels::kMaxLevels);
  for (const int64_t s : config_.strides)
    check(s > 0, "detection loss: stride {} is not positive", s);
  check(config_.num_classes > 0, "detection loss: {} classes", config_.num_classes);
  check(!config_.use_dfl || config_.reg_max > 0,
        "detection loss: reg_max {} with DFL, must be at least 1", config_.reg_max);
  check(config_.topk > 0, "detection loss: topk {} is not positive", config_.topk);
  check(config_.varifocal_gamma >= 1.0, "detection loss: varifocal gamma {} is below 1",
        config_.varifocal_gamma);
}

LossResult DetectionLoss::operator()(const std::vector<Variable>& cls_logits,
                                     const std::vector<Variable>& reg, const Tensor& targets,
                                     int64_t image_h, int64_t image_w) const {
  const size_t levels = config_.strides.size();
  check(cls_logits.size() == levels && reg.size() == levels,
        "detection loss: {} class maps and {} distance maps for {} strides", cls_logits.size(),
        reg.size(), levels);
  std::vector<Variable> inputs = cls_logits;
  inputs.insert(inputs.end(), reg.begin(), reg.end());
  const bool differentiate = needs_grad(inputs);
  std::vector<Tensor> grads(differentiate ? 2 * levels : 0);
  Predictions pred;
  pred.logits = true;
  for (size_t l = 0; l < levels; ++l) {
    check_map(cls_logits[l], "class map", l, config_.num_classes);
    check_map(reg[l], "distance map", l, config_.reg_channels());
    const Shape& c = cls_logits[l].shape();
    const Shape& r = reg[l].shape();
    check(c[0] == cls_logits[0].dim(0) && r[0] == c[0] && r[1] == c[1] && r[2] == c[2],
          "detection loss: class map {} and distance map {} of level {} in a batch of {}", c.str(),
          r.str(), l, cls_logits[0].dim(0));
    LevelView v;
    v.cls = cls_logits[l].f32();
    v.reg = reg[l].f32();
    v.height = c[1];
    v.width = c[2];
    v.image_anchors = v.anchors();
    if (differentiate) {
      grads[l] = Tensor(c);
      grads[levels + l] = Tensor::zeros(r);
      v.cls_grad = grads[l].f32();
      v.reg_grad = grads[levels + l].f32();
    }
    pred.levels.push_back(v);
    pred.blocks.push_back({v.cls, v.cls_grad, static_cast<int>(l), static_cast<int>(l) + 1});
    pred.anchors += v.anchors();
  }
  pred.batch = cls_logits[0].dim(0);
  const Truth truth = read_targets(targets, pred.batch, config_.num_classes, image_h, image_w);
  return finish(evaluate(config_, pred, truth), inputs, std::move(grads));
}

LossResult DetectionLoss::from_scores(const Variable& scores, const Variable& reg,
                                      const std::vector<FeatureShape>& shapes,
                                      const Tensor& targets, int64_t image_h,
                                      int64_t image_w) const {
  check(shapes.size() == config_.strides.size(), "detection loss: {} feature shapes for {} strides",
        shapes.size(), config_.strides.size());
  Predictions pred;
  for (const FeatureShape& s : shapes) pred.anchors += s.height * s.width;
  const auto fits = [&](const Variable& v, int64_t channels) {
    return v.defined() && v.data().dtype() == DType::kF32 && v.shape().rank() == 3 &&
           v.dim(0) == scores.dim(0) && v.dim(1) == pred.anchors && v.dim(2) == channels;
  };
  check(fits(scores, config_.num_classes) && fits(reg, config_.reg_channels()),
        "detection loss: scores {} and distances {}, expected F32 [N,{},{}] and [N,{},{}]",
        scores.shape().str(), reg.shape().str(), pred.anchors, config_.num_classes, pred.anchors,
        config_.reg_channels());
  const std::vector<Variable> inputs = {scores, reg};
  std::vector<Tensor> grads;
  if (needs_grad(inputs)) grads = {Tensor(scores.shape()), Tensor::zeros(reg.shape())};
  int64_t offset = 0;
  for (const FeatureShape& s : shapes) {
    LevelView v;
    v.height = s.height;
    v.width = s.width;
    v.image_anchors = pred.anchors;
    v.cls = scores.f32() + offset * config_.num_classes;
    v.reg = reg.f32() + offset * config_.reg_channels();
    if (!grads.empty()) {
      v.cls_grad = grads[0].f32() + offset * config_.num_classes;
      v.reg_grad = grads[1].f32() + offset * config_.reg_channels();
    }
    offset += v.anchors();
    pred.levels.push_back(v);
  }
  pred.blocks = {
      {scores.f32(), grads.empty() ? nullptr : grads[0].f32(), 0, static_cast<int>(shapes.size())}};
  pred.batch = scores.dim(0);
  const Truth truth = read_targets(targets, pred.batch, config_.num_classes, image_h, image_w);
  return finish(evaluate(config_, pred, truth), inputs, std::move(grads));
}

}  // namespace sextant
