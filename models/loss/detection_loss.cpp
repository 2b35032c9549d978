// SPDX-License-Identifier: Apache-2.0
#include "models/loss/detection_loss.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>

#include "core/profile_range.h"
#include "kernels/backend.h"
#include "models/loss/branch_loss.h"

namespace sextant {
namespace {

using loss_detail::BoxForm;
using loss_detail::Branch;
using loss_detail::LevelMaps;
using loss_detail::LossSums;
using loss_detail::TruthView;

// A sum of target scores that is 0 except for rounding is not used as a divisor.
constexpr double kNoScore = 1e-9;

// Multiplies by a scalar on the tensors' device.
void scale_in_place(const std::vector<Tensor>& tensors, const Tensor& factor) {
  const auto scale = [&](kernels::ScaleGradients& p) {
    p.factor = factor.f32();
    kernels::backend(factor.device()).scale_gradients(p);
    p = {};
  };
  kernels::ScaleGradients p;
  for (const Tensor& t : tensors) {
    p.x[p.count] = t.f32();
    p.n[p.count++] = t.numel();
    if (p.count == kernels::kMaxScaled) scale(p);
  }
  if (p.count > 0) scale(p);
}

// The inputs of one loss with memory for their gradients.
class Inputs {
 public:
  explicit Inputs(const LossInput& in) {
    for (const auto* maps : {&in.cls_logits, &in.reg, &in.objectness, &in.reg_lrtb,
                             &in.cls_logits_ab, &in.reg_ab, &in.features})
      variables_.insert(variables_.end(), maps->begin(), maps->end());
    differentiate_ = needs_grad(variables_);
    variables_.clear();
  }

  // Adds v; returns the memory for its gradient, or null when none is wanted. A sparse gradient
  // starts as zero; any other will be written entirely.
  float* add(const Variable& v, bool sparse) {
    variables_.push_back(v);
    if (!differentiate_) return nullptr;
    const Device device = v.data().device();
    grads_.push_back(sparse ? Tensor::zeros(v.shape(), DType::kF32, device)
                            : Tensor(v.shape(), DType::kF32, device));
    return grads_.back().f32();
  }

  // The scalar, with the gradients that were computed along with it.
  Variable finish(Tensor value) {
    const auto backward = [grads = std::move(grads_)](const Tensor& grad,
                                                      const std::vector<bool>&) {
      scale_in_place(grads, grad);  // this runs once
      return grads;
    };
    return make_result("detection_loss", std::move(value), variables_, backward);
  }

 private:
  bool differentiate_ = false;
  std::vector<Variable> variables_;
  std::vector<Tensor> grads_;
};

struct MapSpec {
  const char* name;
  int64_t channels;
};

// One map per level, with the shapes of the class maps except for the channels.
void check_maps(const std::vector<Variable>& maps, const std::vector<Variable>& like,
                MapSpec spec) {
  check(maps.size() == like.size(), "detection loss: {} {}s for {} strides", maps.size(), spec.name,
        like.size());
  for (size_t l = 0; l < maps.size(); ++l) {
    const Variable& v = maps[l];
    check(v.defined() && v.data().dtype() == DType::kF32 && v.shape().rank() == 4 &&
              v.dim(3) == spec.channels,
          "detection loss: {} of level {} is {}, expected F32 [N,H,W,{}]", spec.name, l,
          v.defined() ? v.shape().str() : std::string("undefined"), spec.channels);
    const Shape &s = v.shape(), &c = like[l].shape();
    check(s[0] == like[0].dim(0) && s[1] == c[1] && s[2] == c[2],
          "detection loss: class map {} and {} {} of level {} in a batch of {}", c.str(), spec.name,
          s.str(), l, like[0].dim(0));
    check(v.data().device() == like[0].data().device(),
          "detection loss: {} of level {} is on {}, the class maps are on {}", spec.name, l,
          name_of(v.data().device()), name_of(like[0].data().device()));
  }
}

// The teacher's maps have the shapes of the student's.
void check_teacher(const std::vector<Tensor>& teacher, const std::vector<Variable>& student,
                   const char* name) {
  check(teacher.size() == student.size(),
        "detection loss: {} {}s of the teacher, {} of the student", teacher.size(), name,
        student.size());
  for (size_t l = 0; l < teacher.size(); ++l) {
    check(teacher[l].defined() && teacher[l].dtype() == DType::kF32 &&
              teacher[l].shape() == student[l].shape(),
          "detection loss: {} of level {} is {} of the teacher, {} of the student", name, l,
          teacher[l].defined() ? teacher[l].shape().str() : std::string("undefined"),
          student[l].shape().str());
    check(teacher[l].device() == student[l].data().device(),
          "detection loss: {} of level {} is on {} of the teacher, on {} of the student", name, l,
          name_of(teacher[l].device()), name_of(student[l].data().device()));
  }
}

// Levels with their class and box maps.
Branch make_branch(const std::vector<Variable>& cls, const std::vector<Variable>& reg,
                   int64_t per_cell, Inputs& inputs) {
  Branch b;
  b.device = cls[0].data().device();
  b.batch = cls[0].dim(0);
  b.per_cell = per_cell;
  for (size_t l = 0; l < cls.size(); ++l) {
    LevelMaps m;
    m.cls = cls[l].f32();
    m.reg = reg[l].f32();
    m.cls_grad = inputs.add(cls[l], false);
    m.reg_grad = inputs.add(reg[l], true);
    m.height = cls[l].dim(1);
    m.width = cls[l].dim(2);
    m.first_anchor = b.anchors;
    b.anchors += m.pixels() * per_cell;
    b.levels.push_back(m);
  }
  return b;
}

// The official decay of the distillation weights.
double distill_decay(const LossConfig& config, int64_t epoch) {
  const double done = static_cast<double>(epoch) / static_cast<double>(config.max_epoch);
  return (1.0 - std::cos(std::numbers::pi * done)) / 2.0 * (0.01 - 1.0) + 1.0;
}

// The anchor-free branch with everything that belongs to it.
Branch main_branch(const LossConfig& config, const LossInput& in, const TeacherOutput* teacher,
                   int64_t epoch, Inputs& inputs) {
  const size_t levels = config.strides.size();
  check(in.cls_logits.size() == levels && in.reg.size() == levels,
        "detection loss: {} class maps and {} distance maps for {} strides", in.cls_logits.size(),
        in.reg.size(), levels);
  check_maps(in.cls_logits, in.cls_logits, {"class map", config.num_classes});
  check_maps(in.reg, in.cls_logits, {"distance map", config.reg_channels()});
  Branch b = make_branch(in.cls_logits, in.reg, 1, inputs);
  b.form = config.use_dfl ? BoxForm::kDistribution : BoxForm::kDistances;
  b.reg_channels = config.reg_channels();
  b.assigner = epoch < config.atss_warmup_epochs ? Assigner::kAtss : config.assigner;
  b.topk = config.topk;
  if (config.objectness_weight > 0.0) {
    check_maps(in.objectness, in.cls_logits, {"objectness map", 1});
    for (size_t l = 0; l < levels; ++l) {
      b.levels[l].objectness = in.objectness[l].f32();
      b.levels[l].objectness_grad = inputs.add(in.objectness[l], false);
    }
  }
  if (!in.reg_lrtb.empty()) {
    check_maps(in.reg_lrtb, in.cls_logits, {"lrtb map", 4});
    for (size_t l = 0; l < levels; ++l) {
      b.levels[l].lrtb = in.reg_lrtb[l].f32();
      b.levels[l].lrtb_grad = inputs.add(in.reg_lrtb[l], true);
    }
  }
  if (teacher) {
    check(config.max_epoch > 0, "detection loss: a teacher needs max_epoch, which is {}",
          config.max_epoch);
    check_teacher(teacher->cls_logits, in.cls_logits, "class map");
    if (config.use_dfl) check_teacher(teacher->reg, in.reg, "distance map");
    b.undivided = kNoScore;
    b.distill_decay = distill_decay(config, epoch);
    for (size_t l = 0; l < levels; ++l) {
      b.levels[l].teacher_cls = teacher->cls_logits[l].f32();
      if (config.use_dfl) b.levels[l].teacher_reg = teacher->reg[l].f32();
    }
  }
  return b;
}

Branch aided_branch(const LossConfig& config, const LossInput& in, Inputs& inputs) {
  check(in.reg_ab.size() == config.strides.size() && in.reg_ab[0].defined() &&
            in.cls_logits_ab.size() == in.reg_ab.size(),
        "detection loss: {} class maps and {} box maps of the anchor-aided branch for {} strides",
        in.cls_logits_ab.size(), in.reg_ab.size(), config.strides.size());
  const int64_t per_cell = config.anchors.empty()
                               ? in.reg_ab[0].shape()[-1] / 4
                               : static_cast<int64_t>(config.anchors[0].size()) / 2;
  check(per_cell >= 1 && per_cell <= 3, "detection loss: {} anchors per cell, must be 1 to 3",
        per_cell);
  check_maps(in.cls_logits_ab, in.cls_logits,
             {"anchor-aided class map", per_cell * config.num_classes});
  check_maps(in.reg_ab, in.cls_logits, {"anchor-aided box map", per_cell * 4});
  Branch b = make_branch(in.cls_logits_ab, in.reg_ab, per_cell, inputs);
  b.form = BoxForm::kCentre;
  b.topk = config.topk_ab;
  b.undivided = kNoScore;
  return b;
}

void feature_distillation(const LossConfig& config, const LossInput& in,
                          const TeacherOutput& teacher, const LossStep& step, double decay,
                          Inputs& inputs, LossSums& sums) {
  check(!in.features.empty(),
        "detection loss: distill_feat_weight is {}, but no features are given",
        config.distill_feat_weight);
  const Device device = in.cls_logits[0].data().device();
  for (size_t l = 0; l < in.features.size(); ++l)
    check(in.features[l].defined() && in.features[l].shape().rank() == 4 &&
              in.features[l].data().dtype() == DType::kF32 &&
              in.features[l].data().device() == device,
          "detection loss: feature map {} is not F32 [N,H,W,C] on {}", l, name_of(device));
  check_teacher(teacher.features, in.features, "feature map");
  for (size_t l = 0; l < in.features.size(); ++l) {
    const Shape& s = in.features[l].shape();
    kernels::KlDiv d;
    d.student = in.features[l].f32();
    d.teacher = teacher.features[l].f32();
    d.grad = inputs.add(in.features[l], false);
    d.outer = s[0];
    d.axis = s[1] * s[2];
    d.inner = s[3];
    const int64_t images = step.across ? step.batch : s[0];
    d.grad_scale = config.distill_feat_weight * decay / static_cast<double>(images * s[3]);
    d.sum = sums.add(loss_detail::kCwd, 1, d.grad_scale);
    kernels::backend(device).kl_div(d);
  }
}

void assign_and_evaluate(const LossConfig& config, Branch branch, const TruthView& truth,
                         Communicator* across, int which, LossSums& sums) {
  branch.across = across;
  evaluate_branch(config, branch, truth, assign_boxes(config, branch, truth), which, sums);
}

}  // namespace

LossValues::LossValues(Tensor values, std::shared_ptr<loss_detail::AsyncTransfer> transfer)
    : values_(std::move(values)), transfer_(std::move(transfer)) {
  if (transfer_) transfer_->download(values_);
}

LossItems LossValues::items() const {
  double v[LossSums::kValues];
  if (transfer_)
    std::memcpy(v, transfer_->downloaded(), sizeof(v));
  else
    std::ranges::copy(values_.to(Device::kCpu).span<double>(), v);
  const auto scores = [&](int branch) {
    kernels::TargetScores s;
    std::memcpy(&s, v + loss_detail::kParts + LossSums::kScores * branch, sizeof(s));
    return s;
  };
  const kernels::TargetScores main = scores(0), aided = scores(1);
  return {.iou = v[loss_detail::kIou],
          .dfl = v[loss_detail::kDfl],
          .cls = v[loss_detail::kCls],
          .objectness = v[loss_detail::kObjectness],
          .cwd = v[loss_detail::kCwd],
          .positives = static_cast<int64_t>(main.positives),
          .target_score = main.sum,
          .positives_ab = static_cast<int64_t>(aided.positives),
          .target_score_ab = aided.sum};
}

DetectionLoss::DetectionLoss(LossConfig config)
    : config_(std::move(config)), transfers_(std::make_shared<loss_detail::AsyncTransfers>()) {
  const LossConfig& c = config_;
  check(!c.strides.empty() && c.strides.size() <= kernels::kMaxLevels,
        "detection loss: {} levels, must be 1 to {}", c.strides.size(), kernels::kMaxLevels);
  for (const int64_t s : c.strides) check(s > 0, "detection loss: stride {} is not positive", s);
  check(c.num_classes > 0, "detection loss: {} classes", c.num_classes);
  check(!c.use_dfl || c.reg_max > 0, "detection loss: reg_max {} with DFL, must be at least 1",
        c.reg_max);
  for (const int64_t k : {c.topk, c.topk_ab, c.atss_topk, c.simota_dynamic_k})
    check(k > 0, "detection loss: topk {} is not positive", k);
  check(c.varifocal_gamma >= 1.0, "detection loss: varifocal gamma {} is below 1",
        c.varifocal_gamma);
  check(c.focal_gamma >= 1.0, "detection loss: focal gamma {} is below 1", c.focal_gamma);
  check(c.quality_focal_beta >= 1.0, "detection loss: quality focal beta {} is below 1",
        c.quality_focal_beta);
  check(c.iou_alpha >= 1.0, "detection loss: IoU alpha {} is below 1", c.iou_alpha);
  check(c.temperature > 0.0, "detection loss: temperature {} is not positive", c.temperature);
  check(c.class_weights.empty() || std::ssize(c.weight_of_class) == c.num_classes,
        "detection loss: class weights without the names of {} classes", c.num_classes);
  if (c.anchors.empty()) return;
  check(c.anchors.size() == c.strides.size(), "detection loss: anchors of {} levels for {} strides",
        c.anchors.size(), c.strides.size());
  for (const std::vector<double>& level : c.anchors) {
    check(level.size() == c.anchors[0].size() && level.size() >= 2 && level.size() % 2 == 0,
          "detection loss: {} numbers for the anchors of a level, must be pairs, equally many per "
          "level",
          level.size());
    for (const double v : level)
      check(v > 0.0, "detection loss: anchor size {} is not positive", v);
  }
}

PlacedTargets DetectionLoss::place(const Tensor& targets, int64_t batch, const LossStep& step,
                                   Device device, int64_t room) const {
  const loss_detail::GroundTruth truth =
      loss_detail::read_targets(targets, batch, config_.num_classes, step.image_h, step.image_w);
  PlacedTargets placed;
  placed.boxes_ =
      std::make_shared<loss_detail::PlacedBoxes>(device, batch, std::max(room, truth.count()));
  placed.boxes_->weigh(config_.weight_of_class);
  placed.boxes_->upload(truth, *transfers_);
  return placed;
}

bool DetectionLoss::replace(PlacedTargets& placed, const Tensor& targets,
                            const LossStep& step) const {
  const loss_detail::GroundTruth truth = loss_detail::read_targets(
      targets, placed.boxes_->batch, config_.num_classes, step.image_h, step.image_w);
  if (truth.count() > placed.boxes_->view.count) return false;
  placed.boxes_->upload(truth, *transfers_);
  return true;
}

LossValues DetectionLoss::fetch(const LossValues& values, const PlacedTargets& targets) const {
  return {values.values_, std::exchange(targets.boxes_->transfer, nullptr)};
}

LossResult DetectionLoss::operator()(const LossInput& input, const PlacedTargets& targets,
                                     const LossStep& step, const TeacherOutput* teacher) const {
  const ProfileRange range("loss");
  Inputs inputs(input);
  const Branch branch = main_branch(config_, input, teacher, step.epoch, inputs);
  const loss_detail::PlacedBoxes& placed = *targets.boxes_;
  check(placed.batch == branch.batch && placed.device == branch.device,
        "detection loss: targets of {} images on {} for maps of {} on {}", placed.batch,
        name_of(placed.device), branch.batch, name_of(branch.device));
  LossSums sums(branch.device);
  assign_and_evaluate(config_, branch, placed.view, step.across, 0, sums);
  if (!input.cls_logits_ab.empty() || !input.reg_ab.empty())
    assign_and_evaluate(config_, aided_branch(config_, input, inputs), placed.view, step.across, 1,
                        sums);
  if (teacher && config_.distill_feat_weight > 0.0)
    feature_distillation(config_, input, *teacher, step, branch.distill_decay, inputs, sums);
  const Tensor loss = sums.combine();
  return {inputs.finish(loss), LossValues(sums.values(), nullptr)};
}

LossResult DetectionLoss::operator()(const LossInput& input, const Tensor& targets,
                                     const LossStep& step, const TeacherOutput* teacher) const {
  check(!input.cls_logits.empty() && input.cls_logits[0].defined(), "detection loss: no class map");
  const Tensor& map = input.cls_logits[0].data();
  const PlacedTargets placed = place(targets, map.shape()[0], step, map.device());
  LossResult r = (*this)(input, placed, step, teacher);
  r.values = fetch(r.values, placed);
  return r;
}

}  // namespace sextant
