// SPDX-License-Identifier: Apache-2.0
// Distillation as a part of the loss of quantization-aware training: the difference between the
// quantized student and the float graph.
#pragma once

#include <functional>
#include <vector>

#include "apps/quantizing/qat_config.h"
#include "layers/functional.h"
#include "models/loss/async_transfer.h"
#include "models/loss/detection_loss.h"
#include "quant/training/distillation_teacher.h"

namespace sextant::apps {

// Weighted parts of the loss besides the detection loss. Their values are gathered on the device
// and copied to the host when they are requested.
class LossParts {
 public:
  struct Part {
    double LossItems::*item;  // the item it is added to
    Variable value;           // f32 [1], already weighted
  };
  void add(double LossItems::*item, const Variable& value) { parts_.push_back({item, value}); }
  const std::vector<Part>& parts() const { return parts_; }
  // Returns a function that adds the values to the items of a step.
  std::function<void(LossItems&)> fetch(loss_detail::AsyncTransfers& transfers) const;

 private:
  std::vector<Part> parts_;
};

class Distillation {
 public:
  // The teacher is the graph `model`, run on `device`; `features` are the tensors to compare
  // channel by channel. Cross-layer equalization rescales channels of `start`, the initial student:
  // the scales are measured on `image`, u8 [1,H,W,3], and the features are compared at the
  // teacher's scale.
  Distillation(const DistillConfig& config, const deploy::Graph& model, const deploy::Graph& start,
               const std::vector<int>& features, const Tensor& image, Device device);

  // Adds the parts for a batch, u8 [N,H,W,3], for which the student computed `out`. All are means
  // over the images; `share` of those of the whole batch are in this one.
  void add_parts(const Tensor& images, const quant::TrainableGraph::Output& out, double share,
                 LossParts& parts);

 private:
  Variable in_teachers_size(const Variable& feature, size_t f) const;

  const DistillConfig& config_;
  quant::DistillationTeacher teacher_;
  std::vector<BatchNormState> channels_;  // of the features; undefined if no rescaling is needed
};

}  // namespace sextant::apps
