// The arithmetic behind DetectionLoss, for one branch of a head.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "models/loss_config.h"

namespace sextant::loss_detail {

// One level of NHWC maps: pixel i of image n is at (n * pixels() + i) * channels. Gradients
// likewise and null when not wanted; absent maps are null.
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
  int64_t first_anchor = 0;  // of the image's anchors
  int64_t pixels() const { return height * width; }
};

// How a branch writes a box down.
enum class BoxForm {
  kDistances,     // l t r b in cells
  kDistribution,  // each of them as reg_max + 1 logits
  kCentre,        // dx dy w h, see LossConfig::anchors
};

// One branch. Its anchors run level by level, within a level all cells for the first of the
// per_cell boxes, then for the next (the order of kernels/anchors.h).
struct Branch {
  std::vector<LevelMaps> levels;
  int64_t batch = 0;
  int64_t anchors = 0;  // per image
  int64_t per_cell = 1;
  BoxForm form = BoxForm::kDistances;
  int64_t reg_channels = 4;  // of one box
  Assigner assigner = Assigner::kTaskAligned;
  int64_t topk = 13;
  double undivided = 1.0;      // sums of target scores up to this do not divide the loss
  double distill_decay = 1.0;  // of the distillation weights; used where there are teacher maps
};

// The boxes to find, by image, in pixels.
struct Truth {
  std::vector<double> boxes;  // [M,4] x1 y1 x2 y2
  std::vector<int32_t> classes;
  std::vector<int64_t> begin;  // [N+1]
};

// `targets` as DetectionLoss takes them. Rows keep their order within an image.
// Throws Error naming the row for what DetectionLoss refuses.
Truth read_targets(const Tensor& targets, int64_t batch, int64_t num_classes, int64_t image_h,
                   int64_t image_w);

// What each anchor is trained towards, [N,A].
struct Assignment {
  std::vector<int32_t> box;    // index among its image's boxes, -1 for background
  std::vector<double> target;  // target score of that box's class
};

// By the branch's assigner.
Assignment assign_boxes(const LossConfig& config, const Branch& branch, const Truth& truth);

// The weighted parts of a branch's loss.
struct BranchLoss {
  double iou = 0;
  double dfl = 0;
  double cls = 0;
  double objectness = 0;
  int64_t positives = 0;
  double target_score = 0;
};

// For an assignment, which counts as constant. Fills the gradients of class and objectness maps
// entirely; those of the boxes only at anchors assigned to a box, the rest is expected to be zero.
BranchLoss evaluate_branch(const LossConfig& config, const Branch& branch, const Truth& truth,
                           const Assignment& assignment);

}  // namespace sextant::loss_detail
