#include "models/loss_evaluation.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cls_loss.h"
#include "kernels/dfl.h"
#include "kernels/kl_div.h"
#include "models/loss_geometry.h"

namespace sextant::loss_detail {
namespace {

// One evaluation of a branch's loss and its gradients.
class Evaluation : Geometry {
 public:
  Evaluation(const LossConfig& config, const Branch& branch, const Truth& truth,
             const Assignment& assignment)
      : Geometry(config, branch), truth_(truth), assignment_(assignment) {
    for (int64_t n = 0; n < branch.batch; ++n)
      each_anchor(n, [&](const Position& p) {
        if (assigned_box(p) >= 0) positives_.push_back(p);
      });
  }

  BranchLoss run() {
    BranchLoss loss;
    for (const Position& p : positives_) loss.target_score += weight(p);
    loss.positives = static_cast<int64_t>(positives_.size());
    score_sum_ = loss.target_score;
    divisor_ = score_sum_ > branch_.undivided ? score_sum_ : 1.0;
    class_loss(loss);
    if (positives_.empty()) return loss;
    decode_positives();
    box_loss(loss);
    if (branch_.levels[0].lrtb) lrtb_loss(loss);
    return loss;
  }

 private:
  int64_t count() const { return static_cast<int64_t>(positives_.size()); }
  int64_t index(const Position& p) const { return p.image * branch_.anchors + p.anchor; }
  int32_t assigned_box(const Position& p) const { return assignment_.box[index(p)]; }
  double weight(const Position& p) const { return assignment_.target[index(p)]; }
  double distill(double part_weight) const { return part_weight * branch_.distill_decay; }

  // Classification and, from the same labels, objectness and class distillation.
  void class_loss(BranchLoss& loss) const {
    std::vector<int32_t> label;
    std::vector<double> target;
    for (const LevelMaps& m : branch_.levels) {
      const int64_t rows = branch_.batch * m.pixels() * branch_.per_cell;
      label.resize(rows);
      target.resize(rows);
      int64_t r = 0;
      for (int64_t n = 0; n < branch_.batch; ++n)
        for (int64_t i = 0; i < m.pixels(); ++i)
          for (int64_t b = 0; b < branch_.per_cell; ++b, ++r) {
            const int64_t from = n * branch_.anchors + m.first_anchor + b * m.pixels() + i;
            const int32_t g = assignment_.box[from];
            label[r] = g < 0 ? -1 : truth_.classes[truth_.begin[n] + g];
            target[r] = assignment_.target[from];
          }
      kernels::ClassLoss c = class_loss_params();
      c.pred = m.cls;
      c.label = label.data();
      c.target = target.data();
      c.grad = m.cls_grad;
      c.rows = rows;
      c.classes = config_.num_classes;
      c.grad_scale = config_.class_weight / divisor_;
      loss.cls += c.grad_scale * kernels::cpu::class_loss_logits(c);
      if (m.teacher_cls) loss.cls += class_distillation(m, rows);
      if (m.objectness) loss.objectness += objectness_loss(m, label);
    }
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

  double class_distillation(const LevelMaps& m, int64_t rows) const {
    kernels::KlDiv d;
    d.student = m.cls;
    d.teacher = m.teacher_cls;
    d.grad = m.cls_grad;
    d.outer = rows;
    d.axis = config_.num_classes;
    d.temperature = config_.temperature;
    d.grad_scale = config_.class_weight * distill(config_.distill_class_weight);
    d.sigmoid = true;
    d.accumulate = true;
    return d.grad_scale * kernels::cpu::kl_div(d);
  }

  // Labels become one class with target 1, and are spoilt by that.
  double objectness_loss(const LevelMaps& m, std::vector<int32_t>& label) const {
    for (int32_t& l : label) l = std::min(l, 0);
    const std::vector<double> ones(label.size(), 1.0);
    kernels::ClassLoss c;
    c.type = kernels::ClassLossType::kPoly;
    c.epsilon = 0.0;
    c.pred = m.objectness;
    c.label = label.data();
    c.target = ones.data();
    c.grad = m.objectness_grad;
    c.rows = static_cast<int64_t>(label.size());
    c.classes = 1;
    c.grad_scale = config_.objectness_weight / divisor_;
    return c.grad_scale * kernels::cpu::class_loss_logits(c);
  }

  void decode_positives() {
    decoded_.resize(count());
    prob_.resize(branch_.form == BoxForm::kDistribution ? branch_.reg_channels * count() : 0);
    goal_.resize(4 * count());
    parallel_for(count(), 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Position& p = positives_[i];
        decode(p, prob(i), decoded_[i]);
        const int64_t g = truth_.begin[p.image] + assigned_box(p);
        for (int k = 0; k < 4; ++k) goal_[4 * i + k] = truth_.boxes[4 * g + k] / stride(p);
      }
    });
  }
  double* prob(int64_t i) {
    return prob_.empty() ? nullptr : prob_.data() + branch_.reg_channels * i;
  }

  // The weighted IoU loss of boxes [count,4]; grad [count,4] is scaled by all but iou_weight.
  double iou_term(const std::vector<double>& boxes, std::vector<double>& grad) const {
    std::vector<double> loss(count());
    grad.resize(4 * count());
    kernels::IouLoss<double> iou;
    iou.pred = boxes.data();
    iou.target = goal_.data();
    iou.loss = loss.data();
    iou.grad = grad.data();
    iou.rows = count();
    iou.type = config_.iou_type;
    iou.eps = config_.iou_eps;
    iou.alpha = config_.iou_alpha;
    kernels::cpu::iou_loss(iou);
    double sum = 0.0;
    for (int64_t i = 0; i < count(); ++i) {
      const double scale = config_.iou_weight * weight(positives_[i]) / divisor_;
      sum += scale * loss[i];
      for (int64_t k = 4 * i; k < 4 * i + 4; ++k) grad[k] *= scale;
    }
    return sum;
  }

  void box_loss(BranchLoss& loss) {
    std::vector<double> boxes(4 * count()), box_grad, side_grad;
    for (int64_t i = 0; i < count(); ++i) std::copy_n(decoded_[i].box, 4, &boxes[4 * i]);
    loss.iou += iou_term(boxes, box_grad);
    if (branch_.form == BoxForm::kDistribution) loss.dfl += distribution_loss(side_grad);
    if (!branch_.levels[0].reg_grad) return;
    const int64_t channels = branch_.reg_channels;
    parallel_for(count(), 64, [&](int64_t begin, int64_t end) {
      std::vector<double> d(channels);
      for (int64_t i = begin; i < end; ++i) {
        const Position& p = positives_[i];
        decode_backward(&box_grad[4 * i], prob(i), decoded_[i], reg(p), d.data());
        float* out = branch_.levels[p.level].reg_grad + row(p) * channels;
        for (int64_t k = 0; k < channels; ++k)
          out[k] =
              static_cast<float>(d[k] + (side_grad.empty() ? 0.0 : side_grad[channels * i + k]));
      }
    });
  }

  // The IoU loss of the plain distances beside a distribution.
  void lrtb_loss(BranchLoss& loss) {
    std::vector<double> boxes(4 * count()), grad;
    const auto at = [&](const Position& p) { return 4 * row(p); };
    for (int64_t i = 0; i < count(); ++i) {
      const Position& p = positives_[i];
      decode_distances(p, branch_.levels[p.level].lrtb + at(p), &boxes[4 * i]);
    }
    loss.iou += iou_term(boxes, grad);
    if (!branch_.levels[0].lrtb_grad) return;
    for (int64_t i = 0; i < count(); ++i) {
      float* out = branch_.levels[positives_[i].level].lrtb_grad + at(positives_[i]);
      for (int k = 0; k < 4; ++k)
        out[k] = static_cast<float>(k < 2 ? -grad[4 * i + k] : grad[4 * i + k]);
    }
  }

  // The weighted DFL term with its distillation; its gradient by the logits of each positive in
  // `grad`.
  double distribution_loss(std::vector<double>& grad) const {
    const int64_t channels = branch_.reg_channels;
    std::vector<float> logits(channels * count());
    std::vector<double> dist(4 * count()), scale(count()), loss(count());
    grad.resize(channels * count());
    for (int64_t i = 0; i < count(); ++i) {
      const Position& p = positives_[i];
      std::copy_n(reg(p), channels, &logits[channels * i]);
      const double* point = &points_[2 * p.anchor];
      kernels::bbox2dist(point[0] / stride(p), point[1] / stride(p), &goal_[4 * i],
                         static_cast<double>(config_.reg_max), &dist[4 * i]);
      scale[i] = config_.dfl_weight * weight(p) / divisor_;
    }
    kernels::DflLoss d;
    d.logits = logits.data();
    d.target = dist.data();
    d.grad_scale = scale.data();
    d.loss = loss.data();
    d.grad = grad.data();
    d.rows = count();
    d.reg_max = config_.reg_max;
    kernels::cpu::dfl_loss(d);
    double sum = 0.0;
    for (int64_t i = 0; i < count(); ++i) sum += scale[i] * loss[i];
    if (branch_.levels[0].teacher_reg) sum += distribution_distillation(logits, grad);
    return sum;
  }

  double distribution_distillation(const std::vector<float>& logits,
                                   std::vector<double>& grad) const {
    const int64_t channels = branch_.reg_channels;
    std::vector<float> teacher(logits.size()), d_logits(logits.size());
    for (int64_t i = 0; i < count(); ++i) {
      const Position& p = positives_[i];
      std::copy_n(branch_.levels[p.level].teacher_reg + row(p) * channels, channels,
                  &teacher[channels * i]);
    }
    kernels::KlDiv d;
    d.student = logits.data();
    d.teacher = teacher.data();
    d.grad = d_logits.data();
    d.outer = 4 * count();
    d.axis = channels / 4;
    d.temperature = config_.temperature;
    // The mean over the sides, times the sum of the divided weights.
    d.grad_scale = config_.dfl_weight * distill(config_.distill_dfl_weight) * score_sum_ /
                   divisor_ / static_cast<double>(d.outer);
    const double loss = kernels::cpu::kl_div(d);
    for (size_t i = 0; i < grad.size(); ++i) grad[i] += static_cast<double>(d_logits[i]);
    return d.grad_scale * loss;
  }

  const Truth& truth_;
  const Assignment& assignment_;
  std::vector<Position> positives_;
  double score_sum_ = 0.0;
  double divisor_ = 1.0;
  // Of the positives, in units of the stride.
  std::vector<Decoded> decoded_;
  std::vector<double> prob_;  // [count, reg_channels], with distributions
  std::vector<double> goal_;  // [count, 4], the assigned boxes
};

}  // namespace

BranchLoss evaluate_branch(const LossConfig& config, const Branch& branch, const Truth& truth,
                           const Assignment& assignment) {
  return Evaluation(config, branch, truth, assignment).run();
}

}  // namespace sextant::loss_detail
