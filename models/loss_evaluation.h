// The arithmetic behind DetectionLoss, over predictions in either memory layout.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "models/loss.h"

namespace sextant::loss_detail {

// One level of predictions inside its tensor: pixel i of image n is at
// (n * image_anchors + i) * channels; gradients likewise (null when not wanted).
struct LevelView {
  const float* cls = nullptr;
  const float* reg = nullptr;
  float* cls_grad = nullptr;
  float* reg_grad = nullptr;
  int64_t height = 0;
  int64_t width = 0;
  int64_t image_anchors = 0;
  int64_t anchors() const { return height * width; }
};

// Class predictions that lie together in memory: levels [first, last) of all images.
struct ClassBlock {
  const float* cls;
  float* grad;
  int first;
  int last;
};

struct Predictions {
  std::vector<LevelView> levels;
  std::vector<ClassBlock> blocks;
  int64_t batch = 0;
  int64_t anchors = 0;  // per image
  bool logits = false;
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

// Task-aligned assignment.
Assignment assign_boxes(const LossConfig& config, const Predictions& pred, const Truth& truth);

// The weighted parts of the loss for an assignment, which counts as constant. Fills the gradients
// of the class predictions entirely; those of the distances only at anchors assigned to a box, the
// rest is expected to be zero.
LossItems evaluate_loss(const LossConfig& config, const Predictions& pred, const Truth& truth,
                        const Assignment& assignment);

}  // namespace sextant::loss_detail
