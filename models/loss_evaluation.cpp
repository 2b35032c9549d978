#include "models/loss_evaluation.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/parallel.h"
#include "kernels/anchors.h"
#include "kernels/assign.h"
#include "kernels/dfl.h"
#include "kernels/varifocal.h"

namespace sextant::loss_detail {
namespace {

// An anchor with a box assigned to it.
struct Positive {
  int64_t image;
  int level;
  int64_t pixel;   // within the level
  int64_t anchor;  // within the image
};

// Where anchors and predicted boxes are.
class Geometry {
 public:
  Geometry(const LossConfig& config, const Predictions& pred) : config_(config), pred_(pred) {
    kernels::GenerateAnchors generate;
    generate.grid.levels = static_cast<int>(pred.levels.size());
    for (size_t l = 0; l < pred.levels.size(); ++l)
      generate.grid.level[l] = {pred.levels[l].height, pred.levels[l].width,
                                static_cast<float>(config.strides[l])};
    std::vector<float> points(2 * pred.anchors);
    generate.points = points.data();
    kernels::cpu::generate_anchors(generate);
    points_.assign(points.begin(), points.end());
  }

  const double* points() const { return points_.data(); }
  const float* reg(const Positive& p) const {
    const LevelView& v = pred_.levels[p.level];
    return v.reg + (p.image * v.image_anchors + p.pixel) * config_.reg_channels();
  }
  double stride(const Positive& p) const { return static_cast<double>(config_.strides[p.level]); }

  // The predicted box in units of the stride; prob [4 * bins] is filled with DFL.
  void predicted_box(const Positive& p, double* prob, double* mean, double* box) const {
    const float* r = reg(p);
    if (config_.use_dfl) {
      kernels::Expectation<double> e;
      e.logits = r;
      e.prob = prob;
      e.mean = mean;
      e.rows = 4;
      e.bins = config_.reg_max + 1;
      kernels::cpu::expectation(e);
    } else {
      std::copy_n(r, 4, mean);
    }
    const double* point = &points_[2 * p.anchor];
    kernels::dist2bbox(point[0] / stride(p), point[1] / stride(p), mean, box);
  }

  // Calls f(position) for all anchors of image n, in order.
  template <class F>
  void each_anchor(int64_t n, const F& f) const {
    Positive p{n, 0, 0, 0};
    for (; p.level < static_cast<int>(pred_.levels.size()); ++p.level)
      for (p.pixel = 0; p.pixel < pred_.levels[p.level].anchors(); ++p.pixel, ++p.anchor) f(p);
  }

 protected:
  const LossConfig& config_;
  const Predictions& pred_;
  std::vector<double> points_;  // [A,2] pixels
};

// One evaluation of the loss and its gradients.
class Evaluation : Geometry {
 public:
  Evaluation(const LossConfig& config, const Predictions& pred, const Truth& truth,
             const Assignment& assignment)
      : Geometry(config, pred), truth_(truth), assignment_(assignment) {
    for (int64_t n = 0; n < pred.batch; ++n)
      each_anchor(n, [&](const Positive& p) {
        if (assignment.box[n * pred.anchors + p.anchor] >= 0) positives_.push_back(p);
      });
  }

  LossItems run() {
    LossItems items;
    for (const Positive& p : positives_)
      items.target_score += assignment_.target[p.image * pred_.anchors + p.anchor];
    items.positives = static_cast<int64_t>(positives_.size());
    divisor_ = items.target_score > 1.0 ? items.target_score : 1.0;
    items.cls = class_loss();
    box_loss(items);
    return items;
  }

 private:
  float* reg_grad(const Positive& p) const {
    const LevelView& v = pred_.levels[p.level];
    return v.reg_grad + (p.image * v.image_anchors + p.pixel) * config_.reg_channels();
  }
  double class_loss() const {
    double sum = 0.0;
    std::vector<int32_t> label(pred_.batch * pred_.anchors);
    std::vector<double> target(pred_.batch * pred_.anchors);
    int64_t first_anchor = 0;
    for (const ClassBlock& b : pred_.blocks) {
      int64_t count = 0;
      for (int l = b.first; l < b.last; ++l) count += pred_.levels[l].anchors();
      for (int64_t n = 0; n < pred_.batch; ++n)
        for (int64_t i = 0; i < count; ++i) {
          const int64_t from = n * pred_.anchors + first_anchor + i;
          const int32_t g = assignment_.box[from];
          label[n * count + i] = g < 0 ? -1 : truth_.classes[truth_.begin[n] + g];
          target[n * count + i] = assignment_.target[from];
        }
      kernels::Varifocal v;
      v.pred = b.cls;
      v.label = label.data();
      v.target = target.data();
      v.grad = b.grad;
      v.rows = pred_.batch * count;
      v.classes = config_.num_classes;
      v.alpha = config_.varifocal_alpha;
      v.gamma = config_.varifocal_gamma;
      v.grad_scale = config_.class_weight / divisor_;
      sum += pred_.logits ? kernels::cpu::varifocal_logits(v) : kernels::cpu::varifocal(v);
      first_anchor += count;
    }
    return config_.class_weight * sum / divisor_;
  }

  void box_loss(LossItems& items) const {
    const int64_t count = static_cast<int64_t>(positives_.size());
    if (count == 0) return;
    const int64_t bins = config_.use_dfl ? config_.reg_max + 1 : 0;
    std::vector<double> pred(4 * count), goal(4 * count), grad(4 * count), loss(count);
    std::vector<double> prob(4 * bins * count), mean(4 * count);
    parallel_for(count, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Positive& p = positives_[i];
        predicted_box(p, prob.data() + 4 * bins * i, &mean[4 * i], &pred[4 * i]);
        const int64_t g =
            truth_.begin[p.image] + assignment_.box[p.image * pred_.anchors + p.anchor];
        for (int k = 0; k < 4; ++k) goal[4 * i + k] = truth_.boxes[4 * g + k] / stride(p);
      }
    });
    kernels::IouLoss<double> iou;
    iou.pred = pred.data();
    iou.target = goal.data();
    iou.loss = loss.data();
    iou.grad = grad.data();
    iou.rows = count;
    iou.type = config_.iou_type;
    iou.eps = config_.iou_eps;
    kernels::cpu::iou_loss(iou);
    for (int64_t i = 0; i < count; ++i) items.iou += weight(i) * loss[i];
    items.iou *= config_.iou_weight / divisor_;

    std::vector<double> dfl_grad;
    if (config_.use_dfl) items.dfl = distribution_loss(goal, dfl_grad);
    if (!pred_.levels[0].reg_grad) return;
    parallel_for(count, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* out = reg_grad(positives_[i]);
        const double scale = config_.iou_weight * weight(i) / divisor_;
        for (int side = 0; side < 4; ++side) {
          const int64_t s = 4 * i + side;
          const double d = (side < 2 ? -scale : scale) * grad[s];  // by the distance
          if (bins == 0) out[side] = static_cast<float>(d);
          for (int64_t k = 0; k < bins; ++k)
            out[side * bins + k] =
                static_cast<float>(d * prob[s * bins + k] * (static_cast<double>(k) - mean[s]) +
                                   dfl_grad[s * bins + k]);
        }
      }
    });
  }

  // The weighted DFL term; its gradient by the logits of each positive in `grad`.
  double distribution_loss(const std::vector<double>& goal, std::vector<double>& grad) const {
    const int64_t count = static_cast<int64_t>(positives_.size());
    const int64_t channels = config_.reg_channels();
    std::vector<float> logits(channels * count);
    std::vector<double> dist(4 * count), scale(count), loss(count);
    grad.resize(channels * count);
    for (int64_t i = 0; i < count; ++i) {
      const Positive& p = positives_[i];
      std::copy_n(reg(p), channels, &logits[channels * i]);
      const double* point = &points_[2 * p.anchor];
      kernels::bbox2dist(point[0] / stride(p), point[1] / stride(p), &goal[4 * i],
                         static_cast<double>(config_.reg_max), &dist[4 * i]);
      scale[i] = config_.dfl_weight * weight(i) / divisor_;
    }
    kernels::DflLoss d;
    d.logits = logits.data();
    d.target = dist.data();
    d.grad_scale = scale.data();
    d.loss = loss.data();
    d.grad = grad.data();
    d.rows = count;
    d.reg_max = config_.reg_max;
    kernels::cpu::dfl_loss(d);
    double sum = 0.0;
    for (int64_t i = 0; i < count; ++i) sum += scale[i] * loss[i];
    return sum;
  }

  double weight(int64_t i) const {
    return assignment_.target[positives_[i].image * pred_.anchors + positives_[i].anchor];
  }

  const Truth& truth_;
  const Assignment& assignment_;
  std::vector<Positive> positives_;
  double divisor_ = 1.0;
};

}  // namespace

Truth read_targets(const Tensor& targets, int64_t batch, int64_t num_classes, int64_t image_h,
                   int64_t image_w) {
  Truth truth;
  truth.begin.assign(batch + 1, 0);
  if (!targets.defined() || targets.numel() == 0) return truth;
  check(targets.dtype() == DType::kF32 && targets.shape().rank() == 2 && targets.dim(1) == 6,
        "detection loss: targets {} {}, expected F32 [M,6]", name_of(targets.dtype()),
        targets.shape().str());
  const float* t = targets.f32();
  const int64_t rows = targets.dim(0);
  std::vector<std::vector<int64_t>> of_image(batch);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = t + 6 * r;
    for (int i = 0; i < 6; ++i)
      check(std::isfinite(row[i]), "detection loss: targets row {} holds {} at column {}", r,
            row[i], i);
    check(row[0] >= 0 && row[0] < static_cast<float>(batch),
          "detection loss: targets row {} has image index {}, the batch has {} images", r, row[0],
          batch);
    check(row[1] >= 0 && row[1] < static_cast<float>(num_classes),
          "detection loss: targets row {} has class {}, the model has {} classes", r, row[1],
          num_classes);
    of_image[static_cast<int64_t>(row[0])].push_back(r);
  }
  for (int64_t n = 0; n < batch; ++n) {
    for (const int64_t r : of_image[n]) {
      const float* row = t + 6 * r;
      const double cx = static_cast<double>(row[2]) * static_cast<double>(image_w);
      const double cy = static_cast<double>(row[3]) * static_cast<double>(image_h);
      const double w = static_cast<double>(row[4]) * static_cast<double>(image_w);
      const double h = static_cast<double>(row[5]) * static_cast<double>(image_h);
      const double box[4] = {cx - w * 0.5, cy - h * 0.5, cx + w * 0.5, cy + h * 0.5};
      // The official code takes rows without a positive sum for padding.
      if (!(box[0] + box[1] + box[2] + box[3] > 0.0)) continue;
      truth.boxes.insert(truth.boxes.end(), box, box + 4);
      truth.classes.push_back(static_cast<int32_t>(row[1]));
    }
    truth.begin[n + 1] = static_cast<int64_t>(truth.classes.size());
  }
  return truth;
}

Assignment assign_boxes(const LossConfig& config, const Predictions& pred, const Truth& truth) {
  Assignment result;
  const int64_t total = pred.batch * pred.anchors;
  result.box.assign(total, -1);
  result.target.assign(total, 0.0);
  if (truth.classes.empty()) return result;
  const Geometry geometry(config, pred);
  kernels::TaskAlignedAssign a;
  a.blocks = static_cast<int>(pred.levels.size());
  for (int l = 0; l < a.blocks; ++l) {
    const LevelView& v = pred.levels[l];
    a.scores[l] = {v.cls, v.anchors(), v.image_anchors * config.num_classes};
  }
  a.logits = pred.logits;
  a.points = geometry.points();
  a.gt_boxes = truth.boxes.data();
  a.gt_classes = truth.classes.data();
  a.gt_begin = truth.begin.data();
  a.batch = pred.batch;
  a.anchors = pred.anchors;
  a.classes = config.num_classes;
  a.topk = config.topk;
  a.alpha = config.assign_alpha;
  a.beta = config.assign_beta;
  a.assigned = result.box.data();
  a.target = result.target.data();

  // Only anchors inside a box can be assigned; no others are decoded.
  std::vector<uint8_t> inside(total);
  kernels::cpu::anchors_inside(a, inside.data());
  const auto boxes = std::make_unique_for_overwrite<double[]>(4 * total);
  parallel_for(pred.batch, 1, [&](int64_t begin, int64_t end) {
    std::vector<double> prob(4 * (config.reg_max + 1));
    for (int64_t n = begin; n < end; ++n)
      geometry.each_anchor(n, [&](const Positive& p) {
        const int64_t i = n * pred.anchors + p.anchor;
        if (!inside[i]) return;
        double mean[4];
        geometry.predicted_box(p, prob.data(), mean, &boxes[4 * i]);
        for (int k = 0; k < 4; ++k) boxes[4 * i + k] *= geometry.stride(p);
      });
  });
  a.pred_boxes = boxes.get();
  kernels::cpu::task_aligned_assign(a);
  return result;
}

LossItems evaluate_loss(const LossConfig& config, const Predictions& pred, const Truth& truth,
                        const Assignment& assignment) {
  return Evaluation(config, pred, truth, assignment).run();
}

}  // namespace sextant::loss_detail
