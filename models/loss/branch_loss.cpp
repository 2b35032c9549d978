// SPDX-License-Identifier: Apache-2.0
#include "models/loss/branch_loss.h"

#include "kernels/backend.h"

namespace sextant::loss_detail {
namespace {

// One evaluation of a branch's loss and its gradients.
class Evaluation {
 public:
  Evaluation(const LossConfig& config, const Branch& branch, const TruthView& truth,
             const Assignment& assignment, int which, LossSums& sums)
      : config_(config),
        branch_(branch),
        truth_(truth),
        assignment_(assignment),
        on_(kernels::backend(branch.device)),
        sums_(sums),
        scores_(sums.scores(which)),
        label_(rows_of(branch), DType::kI32, branch.device),
        target_(rows_of(branch), DType::kF64, branch.device) {}

  void run() {
    const bool objectness = branch_.levels[0].objectness != nullptr;
    if (objectness) object_ = Tensor(rows_of(branch_), DType::kI32, branch_.device);
    kernels::LossTargets rows;
    rows.maps = box_maps(config_, branch_);
    rows.assigned = assignment_.box.data<int32_t>();
    rows.target = assignment_.target.data<double>();
    rows.gt_classes = truth_.classes;
    rows.gt_begin = truth_.begin;
    rows.undivided = branch_.undivided;
    rows.label = label_.data<int32_t>();
    rows.object = objectness ? object_.data<int32_t>() : nullptr;
    rows.row_target = target_.data<double>();
    rows.scores = scores_;
    rows.across = branch_.across;
    on_.loss_targets(rows);
    class_loss();
    if (branch_.levels[0].teacher_cls) class_distillation();
    if (objectness) objectness_loss();
    box_loss();
    if (branch_.levels[0].lrtb) lrtb_loss();
  }

 private:
  static Shape rows_of(const Branch& branch) { return {branch.batch * branch.anchors}; }
  int levels() const { return static_cast<int>(branch_.levels.size()); }
  double distill(double part_weight) const { return part_weight * branch_.distill_decay; }

  // Calls f(map, first row, rows, l) for every level.
  template <class F>
  void each_level(const F& f) const {
    for (int l = 0; l < levels(); ++l) {
      const LevelMaps& m = branch_.levels[l];
      f(m, branch_.batch * m.first_anchor, branch_.batch * m.pixels() * branch_.per_cell, l);
    }
  }

  void class_loss() const {
    double* sum = sums_.add(kCls, levels(), config_.class_weight, &scores_->divisor);
    each_level([&](const LevelMaps& m, int64_t first, int64_t rows, int l) {
      kernels::ClassLoss c = class_loss_params();
      c.pred = m.cls;
      c.label = label_.data<int32_t>() + first;
      c.target = target_.data<double>() + first;
      c.class_weights = truth_.class_weights;
      c.grad = m.cls_grad;
      c.rows = rows;
      c.classes = config_.num_classes;
      c.grad_scale = config_.class_weight;
      c.divisor = &scores_->divisor;
      c.sum = sum + l;
      on_.class_loss_logits(c);
    });
  }

  kernels::ClassLoss class_loss_params() const {
    kernels::ClassLoss c;
    c.type = config_.cls_loss;
    c.epsilon = config_.poly_epsilon;
    switch (c.type) {
      case kernels::ClassLossType::kVarifocal:
        c.alpha = config_.varifocal_alpha;
        c.gamma = config_.varifocal_gamma;
        break;
      case kernels::ClassLossType::kFocal:
        c.alpha = config_.focal_alpha;
        c.gamma = config_.focal_gamma;
        break;
      case kernels::ClassLossType::kQualityFocal:
        c.gamma = config_.quality_focal_beta;
        break;
      case kernels::ClassLossType::kPoly:
        break;
    }
    return c;
  }

  // After class_loss(), whose gradients it adds to.
  void class_distillation() const {
    const double weight = config_.class_weight * distill(config_.distill_class_weight);
    double* sum = sums_.add(kCls, levels(), weight);
    each_level([&](const LevelMaps& m, int64_t, int64_t rows, int l) {
      kernels::KlDiv d;
      d.student = m.cls;
      d.teacher = m.teacher_cls;
      d.grad = m.cls_grad;
      d.outer = rows;
      d.axis = config_.num_classes;
      d.temperature = config_.temperature;
      d.grad_scale = weight;
      d.sigmoid = true;
      d.accumulate = true;
      d.sum = sum + l;
      on_.kl_div(d);
    });
  }

  // One class, whose target is 1.
  void objectness_loss() const {
    double* sum = sums_.add(kObjectness, levels(), config_.objectness_weight, &scores_->divisor);
    each_level([&](const LevelMaps& m, int64_t first, int64_t rows, int l) {
      kernels::ClassLoss c;
      c.type = kernels::ClassLossType::kPoly;
      c.epsilon = 0.0;
      c.pred = m.objectness;
      c.label = object_.data<int32_t>() + first;
      c.grad = m.objectness_grad;
      c.rows = rows;
      c.classes = 1;
      c.grad_scale = config_.objectness_weight;
      c.divisor = &scores_->divisor;
      c.sum = sum + l;
      on_.class_loss_logits(c);
    });
  }

  kernels::BoxLoss box_loss_params() const {
    kernels::BoxLoss b;
    b.maps = box_maps(config_, branch_);
    b.assigned = assignment_.box.data<int32_t>();
    b.target = assignment_.target.data<double>();
    b.gt_boxes = truth_.boxes;
    b.gt_begin = truth_.begin;
    b.scores = scores_;
    b.type = config_.iou_type;
    b.eps = config_.iou_eps;
    b.alpha = config_.iou_alpha;
    b.temperature = config_.temperature;
    b.scale[0] = config_.iou_weight;
    b.scale[1] = config_.dfl_weight;
    b.scale[2] = config_.dfl_weight * distill(config_.distill_dfl_weight);
    return b;
  }

  void box_loss() const {
    kernels::BoxLoss b = box_loss_params();
    each_level([&](const LevelMaps& m, int64_t, int64_t, int l) {
      b.teacher[l] = m.teacher_reg;
      b.grad[l] = m.reg_grad;
    });
    // The three are allocated next to each other.
    b.sums = sums_.add(kIou, 1, b.scale[0], &scores_->divisor);
    sums_.add(kDfl, 1, b.scale[1], &scores_->divisor);
    sums_.add(kDfl, 1, b.scale[2], &scores_->divisor);
    on_.box_loss(b);
  }

  // The IoU loss of the plain distances that accompany a distribution.
  void lrtb_loss() const {
    kernels::BoxLoss b = box_loss_params();
    b.maps.form = BoxForm::kDistances;
    b.maps.bins = 1;
    each_level([&](const LevelMaps& m, int64_t, int64_t, int l) {
      b.maps.level[l].reg = m.lrtb;
      b.grad[l] = m.lrtb_grad;
    });
    b.sums = sums_.add(kIou, 1, b.scale[0], &scores_->divisor);
    sums_.ignore(kernels::kBoxLossSums - 1);
    on_.box_loss(b);
  }

  const LossConfig& config_;
  const Branch& branch_;
  const TruthView& truth_;
  const Assignment& assignment_;
  const kernels::Backend& on_;
  LossSums& sums_;
  kernels::TargetScores* scores_;
  Tensor label_, object_, target_;  // [N*A], level by level
};

}  // namespace

kernels::BoxMaps box_maps(const LossConfig& config, const Branch& branch) {
  kernels::BoxMaps maps;
  maps.levels = static_cast<int>(branch.levels.size());
  maps.batch = branch.batch;
  maps.per_cell = branch.per_cell;
  maps.form = branch.form;
  maps.bins = branch.reg_channels / 4;
  maps.sized = branch.form == BoxForm::kCentre && !config.anchors.empty();
  for (int l = 0; l < maps.levels; ++l) {
    const LevelMaps& m = branch.levels[l];
    kernels::BoxLevel& level = maps.level[l];
    level.reg = m.reg;
    level.height = m.height;
    level.width = m.width;
    level.stride = static_cast<double>(config.strides[l]);
    for (int64_t b = 0; maps.sized && b < branch.per_cell; ++b)
      for (int64_t i = 0; i < 2; ++i) level.sizes[b][i] = config.anchors[l][2 * b + i];
  }
  return maps;
}

LossSums::LossSums(Device device)
    : sums_(Shape{kMost}, DType::kF64, device),
      values_(Tensor::zeros(Shape{kValues}, DType::kF64, device)) {
  static_assert(sizeof(kernels::TargetScores) == kScores * sizeof(double));
  combine_.sums = sums_.data<double>();
  combine_.parts = kParts;
  combine_.part = values_.data<double>();
}

int LossSums::take(int count) {
  check(used_ + count <= kMost, "detection loss: more than {} sums", kMost);
  const int first = used_;
  used_ += count;
  return first;
}

double* LossSums::add(Part part, int count, double factor, const double* divisor) {
  check(combine_.terms < kernels::kMaxLossTerms, "detection loss: more than {} terms",
        kernels::kMaxLossTerms);
  const int first = take(count);
  combine_.term[combine_.terms++] = {part, first, count, factor, divisor};
  return sums_.data<double>() + first;
}

double* LossSums::ignore(int count) { return sums_.data<double>() + take(count); }

kernels::TargetScores* LossSums::scores(int branch) const {
  return reinterpret_cast<kernels::TargetScores*>(values_.data<double>() + kParts +
                                                  kScores * branch);
}

Tensor LossSums::combine() {
  Tensor loss(Shape{1}, DType::kF32, values_.device());
  combine_.loss = loss.f32();
  kernels::backend(values_.device()).total_loss(combine_);
  return loss;
}

void evaluate_branch(const LossConfig& config, const Branch& branch, const TruthView& truth,
                     const Assignment& assignment, int which, LossSums& sums) {
  Evaluation(config, branch, truth, assignment, which, sums).run();
}

}  // namespace sextant::loss_detail
