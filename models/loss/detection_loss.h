// The training loss of a YOLOv6 detector: label assignment, then classification, box and
// distribution focal loss, optionally objectness, the anchor-aided branch and distillation.
//
//   loss = class_weight * cls + iou_weight * iou + dfl_weight * dfl [+ objectness + cwd]
//
// The first three are summed over the batch and divided by the sum of the target scores: when that
// is above 1 (the official yolov6/models/losses/loss.py), or, with a teacher and in the
// anchor-aided branch, when it is above 0 (loss_distill.py, loss_distill_ns.py, loss_fuseab.py).
// Computed in double, except for the classification loss, which is vectorised in float and summed
// in double. The order of all sums is fixed, so the result does not depend on the number of
// threads.
//
// All of it runs on the device of the maps. There nothing waits for the device: the loss is a
// tensor of its memory, gradients are multiplied there by what comes in from above, and the items
// come over when they are asked for.
//
// The variants are made by what is given beside the two maps of every head:
//
//   teacher       cls += T^2 KL over all anchors of the softmaxed class scores (not divided), dfl
//   +=
//                 T^2 KL of the side distributions, its mean over the sides of positive anchors
//                 times the sum of their target scores divided as above; both times
//                 distill_..._weight and a decay from 1 at epoch 0 to 0.01 at max_epoch. With one
//                 class the first is 0.
//   features      with a teacher and distill_feat_weight: cwd is the channel-wise distillation of
//                 each map (layers/distill.h, temperature 1), with that weight and decay
//   reg_lrtb      a second IoU loss, of four plain distances, for the same assignment (the
//                 distribution branch is then there for DFL and distillation)
//   ..._ab        the anchor-aided branch: a loss of its own with task-aligned assignment, topk_ab,
//                 added to the others; no DFL
//   objectness    binary cross-entropy to 1 at assigned anchors and 0 elsewhere, divided as the
//                 others, times objectness_weight. SimOTA then multiplies it into class scores, as
//                 inference has to.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/variable.h"
#include "models/loss/loss_config.h"

namespace sextant {

namespace loss_detail {
class AsyncTransfer;
class AsyncTransfers;
struct PlacedBoxes;
}  // namespace loss_detail

// What a detector gives, one map per stride, all f32. Empty lists are absent parts.
struct LossInput {
  std::vector<Variable> cls_logits;  // [N,H,W,num_classes] before the sigmoid
  std::vector<Variable> reg;         // [N,H,W,reg_channels()]
  std::vector<Variable> objectness;  // [N,H,W,1] before the sigmoid
  std::vector<Variable> reg_lrtb;    // [N,H,W,4] distances l t r b in cells
  // B boxes a cell, those of one anchor together.
  std::vector<Variable> cls_logits_ab;  // [N,H,W,B*num_classes] before the sigmoid
  std::vector<Variable> reg_ab;         // [N,H,W,B*4], see LossConfig::anchors
  std::vector<Variable> features;       // [N,H,W,C], those that are distilled
};

// The same maps of the teacher, of the shapes of the student's.
struct TeacherOutput {
  std::vector<Tensor> cls_logits;
  std::vector<Tensor> reg;       // not read without DFL
  std::vector<Tensor> features;  // not read with distill_feat_weight 0
};

struct LossStep {
  int64_t image_h = 0;  // pixels
  int64_t image_w = 0;
  int64_t epoch = 0;  // from 0
};

// Already weighted; their sum is the loss. iou, dfl and cls hold the parts of both branches and of
// class and DFL distillation, as the official items do.
struct LossItems {
  double iou = 0;
  double dfl = 0;
  double cls = 0;
  double objectness = 0;
  double cwd = 0;           // channel-wise distillation of the features
  int64_t positives = 0;    // anchors assigned to a box
  double target_score = 0;  // sum of the target scores
  int64_t positives_ab = 0;
  double target_score_ab = 0;

  double total() const { return iou + dfl + cls + objectness + cwd; }
};

// Items that a device may still be at work on.
class LossValues {
 public:
  LossValues() = default;
  // `values` as LossSums has them; `transfer`, when there is one, brings them from the device.
  LossValues(Tensor values, std::shared_ptr<loss_detail::AsyncTransfer> transfer);
  // Waits for the device to have got as far as this loss; later work goes on meanwhile, unless
  // these are those of a placed batch (below), for which it waits for all work.
  LossItems items() const;

 private:
  friend class DetectionLoss;
  Tensor values_;
  std::shared_ptr<loss_detail::AsyncTransfer> transfer_;
};

// The boxes of a batch where the maps are: what DetectionLoss::place() makes of targets. On a
// device there may be room for more, so that the next batch's boxes come to lie at the same place
// and recorded work (core/device.h) finds them there.
class PlacedTargets {
 public:
  PlacedTargets() = default;

 private:
  friend class DetectionLoss;
  std::shared_ptr<loss_detail::PlacedBoxes> boxes_;
};

struct LossResult {
  Variable loss;  // shape [1]
  LossValues values;

  LossItems items() const { return values.items(); }
};

class DetectionLoss {
 public:
  // Throws Error for impossible values: no level, non-positive stride, reg_max < 1 with DFL, an
  // exponent below 1, anchors that do not fit the levels.
  explicit DetectionLoss(LossConfig config);
  const LossConfig& config() const { return config_; }

  // All maps lie on one device. `targets` f32 [M,6], on the host: image index, class, cx, cy, w, h
  // relative to the image, in any order; M may be 0. Every input gets a gradient, also in a batch
  // without positives. Throws Error for shapes that do not fit, a part the config asks for that is
  // absent, a class outside [0, num_classes), an image index outside the batch or a box that is not
  // finite, naming the row. Calls of one object must not run at the same time.
  LossResult operator()(const LossInput& input, const Tensor& targets, const LossStep& step,
                        const TeacherOutput* teacher = nullptr) const;

  // The same in parts, for recorded work: the first and the last copy from and to the host, what is
  // between them starts kernels only.
  //
  // Targets of `batch` images of the step's size, on `device`, with room for `room` boxes at least.
  PlacedTargets place(const Tensor& targets, int64_t batch, const LossStep& step, Device device,
                      int64_t room = 0) const;
  // Puts another batch's where `placed`'s are. False, and nothing changed, where there is no room.
  bool replace(PlacedTargets& placed, const Tensor& targets, const LossStep& step) const;
  LossResult operator()(const LossInput& input, const PlacedTargets& targets, const LossStep& step,
                        const TeacherOutput* teacher = nullptr) const;
  // Starts the copy to the host of the values of the batch that was placed there last.
  LossValues fetch(const LossValues& values, const PlacedTargets& targets) const;

  // The two maps of every head only.
  LossResult operator()(const std::vector<Variable>& cls_logits, const std::vector<Variable>& reg,
                        const Tensor& targets, int64_t image_h, int64_t image_w,
                        int64_t epoch = 0) const {
    LossInput input;
    input.cls_logits = cls_logits;
    input.reg = reg;
    return (*this)(input, targets, {image_h, image_w, epoch});
  }

 private:
  LossConfig config_;
  std::shared_ptr<loss_detail::AsyncTransfers> transfers_;  // for devices
};

}  // namespace sextant
