// SPDX-License-Identifier: Apache-2.0
// The training loss of a YOLOv6 detector: label assignment, then classification, box and
// distribution focal loss, optionally objectness, the anchor-aided branch and distillation.
//
//   loss = class_weight * cls + iou_weight * iou + dfl_weight * dfl [+ objectness + cwd]
//
// The first three are summed over the batch and divided by the sum of the target scores: when that
// is above 1 (the official yolov6/models/losses/loss.py), or, with a teacher and in the
// anchor-aided branch, when it is above 0 (loss_distill.py, loss_distill_ns.py, loss_fuseab.py).
// Computed in double, except for the classification loss, which is vectorized in float and summed
// in double. The order of all sums is fixed, so the result does not depend on the number of
// threads.
//
// Everything runs on the device of the maps, and nothing waits for the device: the loss is a tensor
// in its memory, gradients are multiplied there by the incoming gradient, and the items are copied
// to the host when they are requested.
//
// The variants follow from the inputs given besides the two maps of every head:
//
//   teacher       cls += T^2 KL over all anchors of the softmaxed class scores (not divided).
//                 dfl += T^2 KL of the side distributions: its mean over the sides of positive
//                 anchors, times the sum of their target scores, divided as above. Both are
//                 multiplied by distill_..._weight and a decay from 1 at epoch 0 to 0.01 at
//                 max_epoch. With one class the first is 0.
//   features      with a teacher and distill_feat_weight: cwd is the channel-wise distillation of
//                 each map (layers/distill.h, temperature 1), with that weight and decay
//   reg_lrtb      a second IoU loss, of four plain distances, for the same assignment (the
//                 distribution branch then only serves DFL and distillation)
//   ..._ab        the anchor-aided branch: its own loss with task-aligned assignment, topk_ab,
//                 added to the others; no DFL
//   objectness    binary cross-entropy with target 1 at assigned anchors and 0 elsewhere, divided
//                 like the others, times objectness_weight. SimOTA then multiplies it into class
//                 scores, as inference does.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/communicator.h"
#include "core/variable.h"
#include "models/loss/loss_config.h"

namespace sextant {

namespace loss_detail {
class AsyncTransfer;
class AsyncTransfers;
struct PlacedBoxes;
}  // namespace loss_detail

// The maps of a detector, one per stride, all f32. Empty lists are absent parts.
struct LossInput {
  std::vector<Variable> cls_logits;  // [N,H,W,num_classes] before the sigmoid
  std::vector<Variable> reg;         // [N,H,W,reg_channels()]
  std::vector<Variable> objectness;  // [N,H,W,1] before the sigmoid
  std::vector<Variable> reg_lrtb;    // [N,H,W,4] distances l t r b in cells
  // B boxes per cell, the channels of one box together.
  std::vector<Variable> cls_logits_ab;  // [N,H,W,B*num_classes] before the sigmoid
  std::vector<Variable> reg_ab;         // [N,H,W,B*4], see LossConfig::anchors
  std::vector<Variable> features;       // [N,H,W,C], the maps to distill
};

// The same maps of the teacher, in the shapes of the student's.
struct TeacherOutput {
  std::vector<Tensor> cls_logits;
  std::vector<Tensor> reg;       // not read without DFL
  std::vector<Tensor> features;  // not read with distill_feat_weight 0
};

struct LossStep {
  int64_t image_h = 0;  // pixels
  int64_t image_w = 0;
  int64_t epoch = 0;  // from 0
  // The maps are of a part of a batch whose other parts are with other processes: sums of target
  // scores, and numbers of positives and of images, are those of the whole batch, so that the losses
  // and the gradients of all processes add up to those of the batch.
  Communicator* across = nullptr;
  int64_t batch = 0;  // images of the whole batch, with `across`
};

// Already weighted; their sum is the loss. iou, dfl and cls include the parts of both branches and
// of class and DFL distillation, as the official items do.
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

// Items that a device may still be computing.
class LossValues {
 public:
  LossValues() = default;
  // `values` as LossSums has them; `transfer`, if not null, copies them from the device.
  LossValues(Tensor values, std::shared_ptr<loss_detail::AsyncTransfer> transfer);
  // Waits until the device has computed this loss, while later work continues; for a placed batch
  // (below) whose values were not fetched, waits for all work.
  LossItems items() const;

 private:
  friend class DetectionLoss;
  Tensor values_;
  std::shared_ptr<loss_detail::AsyncTransfer> transfer_;
};

// The boxes of a batch on the device of the maps, as placed by DetectionLoss::place(). On a device
// there may be room for more, so that the next batch's boxes can be stored at the same address,
// where recorded work (core/device.h) reads them.
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
  // Throws Error for invalid values: no level, a non-positive stride, reg_max < 1 with DFL, an
  // exponent below 1, anchors that do not fit the levels.
  explicit DetectionLoss(LossConfig config);
  const LossConfig& config() const { return config_; }

  // All maps lie on one device. `targets` f32 [M,6], on the host: image index, class, cx, cy, w, h
  // relative to the image, in any order; M may be 0. Every input gets a gradient, even in a batch
  // without positives. Throws Error for mismatched shapes, for a missing part that the config
  // needs, and, naming the row, for a class outside [0, num_classes), an image index outside the
  // batch or a box that is not finite. Calls on one object must not run concurrently.
  LossResult operator()(const LossInput& input, const Tensor& targets, const LossStep& step,
                        const TeacherOutput* teacher = nullptr) const;

  // The same in parts, for recorded work: place(), replace() and fetch() copy from and to the host;
  // the call between them only launches kernels.
  //
  // Targets of `batch` images of the step's size, on `device`, with room for at least `room` boxes.
  PlacedTargets place(const Tensor& targets, int64_t batch, const LossStep& step, Device device,
                      int64_t room = 0) const;
  // Replaces the boxes of `placed` by another batch's, in place. Returns false and changes nothing
  // if there is no room.
  bool replace(PlacedTargets& placed, const Tensor& targets, const LossStep& step) const;
  LossResult operator()(const LossInput& input, const PlacedTargets& targets, const LossStep& step,
                        const TeacherOutput* teacher = nullptr) const;
  // Starts copying the values of the batch that was placed last to the host.
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
