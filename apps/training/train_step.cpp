// SPDX-License-Identifier: Apache-2.0
#include "apps/training/train_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/device.h"
#include "core/progress.h"
#include "layers/autocast.h"
#include "layers/functional.h"
#include "layers/shared_statistics.h"

namespace sextant::apps {
namespace {

// Room for as many boxes again as the first batch has, so that few batches need a new recording.
constexpr int64_t kLeastRoom = 64;
int64_t room_for(const Tensor& targets) {
  return std::max(kLeastRoom, 2 * (targets.defined() ? targets.shape()[0] : 0));
}

}  // namespace

struct TrainStep::Recording {
  Tensor images;
  PlacedTargets targets;
  LossStep step;
  std::unique_ptr<RecordedWork> work;
  LossValues values;              // of the last run
  std::vector<Tensor> gradients;  // where each replay puts them; empty before the first
  std::vector<int64_t> counters;  // before the run
  std::vector<int64_t> counted;   // by each replay
};

TrainStep::TrainStep(const Yolov6& model, const DetectionLoss& loss, const Yolov6* teacher,
                     const optim::GradScaler* scaler, const TrainStepConfig& config)
    : model_(model), loss_(loss), teacher_(teacher), scaler_(scaler), config_(config) {
  for (const auto& p : model.parameters())
    if (p.variable.requires_grad()) parameters_.push_back(p.variable);
  check(!parameters_.empty(), "train step: nothing to train");
  device_ = parameters_[0].data().device();
  one_ = Tensor::full({1}, 1.0f, device_);
  for (const auto& s : model.state())
    if (s.tensor.dtype() == DType::kI64) counters_.push_back(s.tensor);
}

TrainStep::~TrainStep() = default;

bool TrainStep::replayed() const { return replayed_; }

LossValues TrainStep::run(const Tensor& images, const Tensor& targets, int64_t epoch, int64_t whole,
                          bool counts) {
  std::optional<WithoutImages> without;
  if (!counts) without.emplace(*processes());
  const LossStep step{images.dim(1), images.dim(2), epoch, without ? &*without : processes(),
                      whole};
  replayed_ = false;
  if (device_ == Device::kCpu || !config_.record || !counts ||
      (recording_ && recording_->images.shape() != images.shape())) {
    const PlacedTargets placed = loss_.place(targets, images.dim(0), step, device_);
    const LossValues values =
        counts ? pass(images, placed, step) : pass_without(images, placed, step);
    return loss_.fetch(values, placed);
  }
  if (recording_ && reuse_recording(targets, step))
    recording_->images.copy_from(images);
  else
    begin(images, targets, step);
  run_recording();
  const LossValues values = loss_.fetch(recording_->values, recording_->targets);
  if (!config_.record) recording_.reset();
  return values;
}

TeacherOutput TrainStep::teach(const Variable& x) const {
  const NoGrad guard;
  const Autocast autocast(config_.type);
  const Yolov6::Features f = teacher_->forward_features(x);
  TeacherOutput out;
  for (const auto& v : f.head.cls_logits) out.cls_logits.push_back(v.data());
  for (const auto& v : f.head.reg) out.reg.push_back(v.data());
  for (const auto& v : f.neck) out.features.push_back(cast(v, DType::kF32).data());
  return out;
}

LossInput TrainStep::forward(const Variable& x, bool features, Communicator* across) const {
  const Autocast autocast(config_.type);
  const SharedStatistics statistics(across);
  Yolov6::Features f = model_.forward_features(x);
  LossInput input = {.cls_logits = f.head.cls_logits,
                     .reg = f.head.reg,
                     .objectness = f.head.objectness,
                     .reg_lrtb = f.head.reg_lrtb,
                     .cls_logits_ab = f.head.cls_logits_ab,
                     .reg_ab = f.head.reg_ab,
                     .features = {}};
  // What the loss reads is f32 in any case.
  if (features)
    for (const Variable& v : f.neck) input.features.push_back(cast(v, DType::kF32));
  return input;
}

LossValues TrainStep::measure(const Tensor& images, const Tensor& targets, int64_t epoch) const {
  const NoGrad guard;
  const LossStep step{images.dim(1), images.dim(2), epoch};
  const PlacedTargets placed = loss_.place(targets, images.dim(0), step, device_);
  const LossInput input = forward(Variable(image_to_float(images)), false, nullptr);
  return loss_.fetch(loss_(input, placed, step, nullptr).values, placed);
}

LossValues TrainStep::pass(const Tensor& images, const PlacedTargets& targets,
                           const LossStep& step) const {
  const Variable x(image_to_float(images));
  const bool distills_features = teacher_ && loss_.config().distill_feat_weight > 0;
  const LossInput input = forward(x, distills_features, config_.sync_bn ? step.across : nullptr);
  const TeacherOutput taught = teacher_ ? teach(x) : TeacherOutput{};
  const LossResult r = loss_(input, targets, step, teacher_ ? &taught : nullptr);
  if (scaler_)
    scaler_->backward(r.loss);
  else
    backward({{r.loss, one_}});
  return r.values;
}

// Takes part in the sums of the other processes, and keeps the gradients as they were: the means that
// batch-norm subtracts reach every image.
LossValues TrainStep::pass_without(const Tensor& images, const PlacedTargets& targets,
                                   const LossStep& step) const {
  std::vector<Tensor> before;
  for (const Variable& p : parameters_) {
    before.push_back(p.grad());
    p.clear_grad();
  }
  const LossValues values = pass(images, targets, step);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i].clear_grad();
    if (before[i].defined()) parameters_[i].add_grad(before[i]);
  }
  return values;
}

// Puts a step's boxes where the recording has them; false where its work is another.
bool TrainStep::reuse_recording(const Tensor& targets, const LossStep& step) {
  const int64_t recorded = recording_->step.epoch, warmup = loss_.config().atss_warmup_epochs;
  if (teacher_ && recorded != step.epoch) return false;
  if (recording_->step.batch != step.batch) return false;
  if ((recorded < warmup) != (step.epoch < warmup)) return false;
  return loss_.replace(recording_->targets, targets, step);
}

void TrainStep::begin(const Tensor& images, const Tensor& targets, const LossStep& step) {
  recording_.reset();  // its memory first
  auto r = std::make_unique<Recording>();
  r->images = images.clone();
  r->targets = loss_.place(targets, images.dim(0), step, device_, room_for(targets));
  r->step = step;
  r->work = std::make_unique<RecordedWork>(
      [this, p = r.get()] { p->values = pass(p->images, p->targets, p->step); },
      [this, p = r.get()] {
        for (const Variable& v : parameters_) v.clear_grad();
        for (size_t i = 0; i < counters_.size(); ++i)
          *counters_[i].data<int64_t>() = p->counters[i];
      });
  recording_ = std::move(r);
}

// Gradients of earlier passes are kept aside: a replay writes its own where it wrote the last.
void TrainStep::run_recording() {
  Recording& r = *recording_;
  std::vector<Tensor> earlier;
  for (const Variable& p : parameters_) {
    earlier.push_back(p.grad());
    p.clear_grad();
  }
  for (size_t i = 0; i < r.gradients.size(); ++i)
    if (earlier[i].defined() && earlier[i].raw() == r.gradients[i].raw())
      earlier[i] = earlier[i].clone();

  r.counters.clear();
  for (const Tensor& c : counters_) r.counters.push_back(*c.data<int64_t>());
  r.work->run();
  if (!r.work->refusal().empty()) {
    print_notice("training steps are not recorded: " + r.work->refusal());
    config_.record = false;
  }
  if (r.work->recorded()) {
    replayed_ = true;
    if (r.gradients.empty()) {
      for (const Variable& p : parameters_) r.gradients.push_back(p.grad());
      for (size_t i = 0; i < counters_.size(); ++i)
        r.counted.push_back(*counters_[i].data<int64_t>() - r.counters[i]);
    } else {
      for (size_t i = 0; i < parameters_.size(); ++i)
        if (r.gradients[i].defined()) parameters_[i].add_grad(r.gradients[i]);
      for (size_t i = 0; i < counters_.size(); ++i) *counters_[i].data<int64_t>() += r.counted[i];
    }
  }
  for (size_t i = 0; i < parameters_.size(); ++i)
    if (earlier[i].defined()) parameters_[i].add_grad(earlier[i]);
}

}  // namespace sextant::apps
