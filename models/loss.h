// The training loss of a YOLOv6 detector: task-aligned assignment, varifocal classification loss,
// IoU-family box loss and distribution focal loss.
//
//   loss = class_weight * cls + iou_weight * iou + dfl_weight * dfl
//
// each summed over the batch and divided by the sum of the target scores when that is above 1
// (the official yolov6/models/losses/loss.py). Computed in double, except for the classification
// loss on logits, which is vectorised in float and summed in double. The order of all sums is
// fixed, so the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "core/variable.h"
#include "kernels/iou_loss.h"

namespace sextant {

struct LossConfig {
  int64_t num_classes = 80;
  std::vector<int64_t> strides = {8, 16, 32};  // pixels per cell of each level
  kernels::IouType iou_type = kernels::IouType::kGIoU;
  int64_t reg_max = 16;
  bool use_dfl = true;  // false: the four distances come straight, reg_max does not matter
  double class_weight = 1.0;
  double iou_weight = 2.5;
  double dfl_weight = 0.5;
  int64_t topk = 13;
  double assign_alpha = 1.0;
  double assign_beta = 6.0;
  double varifocal_alpha = 0.75;
  double varifocal_gamma = 2.0;
  double iou_eps = 1e-10;

  // Channels of the distance maps: 4, or 4 * (reg_max + 1) with DFL.
  int64_t reg_channels() const { return use_dfl ? 4 * (reg_max + 1) : 4; }
};

// Already weighted; their sum is the loss.
struct LossItems {
  double iou = 0;
  double dfl = 0;
  double cls = 0;
  int64_t positives = 0;    // anchors assigned to a box
  double target_score = 0;  // sum of the target scores
};

struct LossResult {
  Variable loss;  // shape [1]
  LossItems items;
};

struct FeatureShape {
  int64_t height = 0;
  int64_t width = 0;
};

class DetectionLoss {
 public:
  // Throws Error for impossible values: no level, non-positive stride, reg_max < 1 with DFL.
  explicit DetectionLoss(LossConfig config);
  const LossConfig& config() const { return config_; }

  // `cls_logits[l]` [N,H_l,W_l,num_classes] before the sigmoid, `reg[l]`
  // [N,H_l,W_l,reg_channels()], both f32, one pair per stride. `targets` f32 [M,6]: image index,
  // class, cx, cy, w, h relative to the image of image_h x image_w pixels, in any order; M may be
  // 0. Every input gets a gradient, also in a batch without positives. Throws Error for shapes that
  // do not fit, a class outside [0, num_classes), an image index outside the batch or a box that is
  // not finite, naming the row.
  LossResult operator()(const std::vector<Variable>& cls_logits, const std::vector<Variable>& reg,
                        const Tensor& targets, int64_t image_h, int64_t image_w) const;

  // The same over concatenated predictions: `scores` [N,A,num_classes] after the sigmoid, `reg`
  // [N,A,reg_channels()], A the cells of `shapes` in order.
  LossResult from_scores(const Variable& scores, const Variable& reg,
                         const std::vector<FeatureShape>& shapes, const Tensor& targets,
                         int64_t image_h, int64_t image_w) const;

 private:
  LossConfig config_;
};

}  // namespace sextant
