// SPDX-License-Identifier: Apache-2.0
// The arithmetic of DetectionLoss for one branch of a head. It runs on the device of the maps, by
// that device's kernels, without waiting for them.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "kernels/detection/box_maps.h"
#include "kernels/detection/loss_targets.h"
#include "kernels/detection/total_loss.h"
#include "models/loss/async_transfer.h"
#include "models/loss/loss_config.h"

namespace sextant::loss_detail {

using kernels::BoxForm;

// One level of NHWC maps, in memory of the branch's device: pixel i of image n is at (n * pixels()
// + i) * channels. Gradients have the same layout and are null when not wanted; absent maps are
// null.
struct LevelMaps {
  const float* cls = nullptr;  // per_cell * num_classes channels
  const float* reg = nullptr;  // per_cell * Branch::reg_channels
  const float* objectness = nullptr;
  const float* lrtb = nullptr;
  float* cls_grad = nullptr;
  float* reg_grad = nullptr;
  float* objectness_grad = nullptr;
  float* lrtb_grad = nullptr;
  const float* teacher_cls = nullptr;
  const float* teacher_reg = nullptr;
  int64_t height = 0;
  int64_t width = 0;
  int64_t first_anchor = 0;  // its index among the image's anchors
  int64_t pixels() const { return height * width; }
};

// One branch. Its anchors are ordered by level; within a level, all cells for the first of the
// per_cell boxes come before those for the next (as in kernels/detection/anchors.h).
struct Branch {
  Device device = Device::kCpu;
  std::vector<LevelMaps> levels;
  int64_t batch = 0;
  int64_t anchors = 0;  // per image
  int64_t per_cell = 1;
  BoxForm form = BoxForm::kDistances;
  int64_t reg_channels = 4;  // per box
  Assigner assigner = Assigner::kTaskAligned;
  int64_t topk = 13;
  double undivided = 1.0;          // a sum of target scores up to this does not divide the loss
  double distill_decay = 1.0;      // of the distillation weights; used where there are teacher maps
  Communicator* across = nullptr;  // as LossStep
};

// The branch's boxes, as the kernels take them.
kernels::BoxMaps box_maps(const LossConfig& config, const Branch& branch);

// Ground-truth boxes by image, in pixels.
struct GroundTruth {
  std::vector<double> boxes;  // [M,4] x1 y1 x2 y2
  std::vector<int32_t> classes;
  std::vector<int64_t> begin;  // [N+1]
  int64_t count() const { return static_cast<int64_t>(classes.size()); }
};

// `targets` as DetectionLoss takes them. Rows keep their order within an image. Throws Error naming
// the row for anything DetectionLoss refuses.
GroundTruth read_targets(const Tensor& targets, int64_t batch, int64_t num_classes, int64_t image_h,
                         int64_t image_w);

// The same in memory of the maps' device.
struct TruthView {
  const double* boxes = nullptr;
  const int32_t* classes = nullptr;
  const int64_t* begin = nullptr;
  int64_t count = 0;                     // begin[N], or the capacity if larger
  const float* class_weights = nullptr;  // [num_classes]; null: 1 each
};

// Memory on `device` for a GroundTruth of up to `room` boxes.
struct PlacedBoxes {
  PlacedBoxes(Device device, int64_t batch, int64_t room);
  // Copies at most view.count boxes, in one transfer taken from `transfers`.
  void upload(const GroundTruth& truth, AsyncTransfers& transfers);
  // Puts weights of the classes beside them; none: 1 each.
  void weigh(const std::vector<float>& class_weights);

  Device device;
  int64_t batch;
  TruthView view;
  Tensor memory;   // U8
  Tensor weights;  // F32 [num_classes], or undefined
  // The transfer of the last upload(), also used to copy the values back; null on the host.
  std::shared_ptr<AsyncTransfer> transfer;
};

// The training target of each anchor.
struct Assignment {
  Tensor box;     // I32 [N,A]: index among its image's boxes, -1 for background
  Tensor target;  // F64 [N,A]: target score of that box's class
};

// Assigns anchors by the branch's assigner.
Assignment assign_boxes(const LossConfig& config, const Branch& branch, const TruthView& truth);

// The parts of the loss, in the order of LossItems.
enum Part : int { kIou, kDfl, kCls, kObjectness, kCwd, kParts };

// The sums that a loss consists of, and the loss.
class LossSums {
 public:
  explicit LossSums(Device device);

  // Device memory for `count` sums. Each adds sum * factor / *divisor to `part`; a null divisor
  // means 1.
  double* add(Part part, int count, double factor, const double* divisor = nullptr);
  // Sums that are not part of the loss.
  double* ignore(int count);
  // The target scores of the main branch (0) or the anchor-aided one (1).
  kernels::TargetScores* scores(int branch) const;

  // F32 [1]. Fills values().
  Tensor combine();
  // F64 [kValues]: the parts, and the two TargetScores.
  static constexpr int64_t kScores = 3;
  static constexpr int64_t kValues = kParts + 2 * kScores;
  const Tensor& values() const { return values_; }

 private:
  int take(int count);
  static constexpr int kMost = 128;
  Tensor sums_, values_;
  kernels::TotalLoss combine_;
  int used_ = 0;
};

// Adds a branch's weighted parts for an assignment, which is treated as constant. Writes the
// gradients of class and objectness maps entirely, and those of the boxes only at anchors assigned
// to a box; the caller sets the rest to zero. `which`: 0 or 1, see LossSums::scores().
void evaluate_branch(const LossConfig& config, const Branch& branch, const TruthView& truth,
                     const Assignment& assignment, int which, LossSums& sums);

}  // namespace sextant::loss_detail
