// Distillation in the loss of quantization-aware training: the quantized student is drawn to the
// float graph.
#pragma once

#include <functional>
#include <vector>

#include "apps/quantizing/qat_config.h"
#include "layers/functional.h"
#include "models/loss/async_transfer.h"
#include "models/loss/detection_loss.h"
#include "quant/training/distillation_teacher.h"

namespace sextant::apps {

// Weighted parts of a loss beside the detection loss. Their values are gathered on their device and
// come from there when they are asked for.
class LossParts {
 public:
  struct Part {
    double LossItems::*item;  // that it counts in
    Variable value;           // f32 [1], times its weight
  };
  void add(double LossItems::*item, const Variable& value) { parts_.push_back({item, value}); }
  const std::vector<Part>& parts() const { return parts_; }
  // What adds the values to the items of a step.
  std::function<void(LossItems&)> fetch(loss_detail::AsyncTransfers& transfers) const;

 private:
  std::vector<Part> parts_;
};

class Distillation {
 public:
  // The teacher is the graph `model`, run on `device`; `features` are the tensors that are compared
  // channel by channel. Cross-layer equalization gives channels of `start`, the student as it was
  // at first, other sizes: these are measured on `image`, u8 [1,H,W,3], and the features compared
  // in the teacher's.
  Distillation(const DistillConfig& config, const deploy::Graph& model, const deploy::Graph& start,
               const std::vector<int>& features, const Tensor& image, Device device);

  // Adds the parts of a batch, u8 [N,H,W,3], which the student turned into `out`.
  void add_parts(const Tensor& images, const quant::TrainableGraph::Output& out, LossParts& parts);

 private:
  Variable in_teachers_size(const Variable& feature, size_t f) const;

  const DistillConfig& config_;
  quant::DistillationTeacher teacher_;
  std::vector<BatchNormState> channels_;  // of the features; undefined where nothing is to be done
};

}  // namespace sextant::apps
