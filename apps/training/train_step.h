// SPDX-License-Identifier: Apache-2.0
// One forward and backward pass of a training.
//
// On a device a step is a thousand short kernels, whose starts and bookkeeping take the host as
// long as small images take the device. So there the pass over a full batch is recorded and
// replayed as one piece (RecordedWork, a CUDA graph): images and boxes are put where the last ones
// were, and gradients and losses come to lie where the last ones did. What changes the work itself
// ends the recording and begins another: more boxes than there is room for, and from epoch to epoch
// the decay of distillation or the end of an assigner's warm-up. A batch of another size is not
// recorded.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "models/loss/detection_loss.h"
#include "models/yolov6.h"
#include "optim/grad_scaler.h"

namespace sextant::apps {

struct TrainStepConfig {
  DType type = DType::kF32;  // of activations
  bool record = true;        // on a device
  bool sync_bn = true;       // with several processes
};

class TrainStep {
 public:
  // All have to outlive this, the model on its device; a null `teacher` or `scaler` is none. The
  // model's parameters must stay where they are in memory.
  TrainStep(const Yolov6& model, const DetectionLoss& loss, const Yolov6* teacher,
            const optim::GradScaler* scaler, const TrainStepConfig& config);
  ~TrainStep();

  // `images` u8 [N,H,W,3] on the model's device, `targets` as DetectionLoss has them, `epoch` from
  // 0. The gradients add up in the model's parameters. Does not wait for the device.
  // With several processes() the images are this one's part of a batch of `whole` images, and the
  // sums over the processes of losses and gradients are those of the batch. Images that do not count
  // (data::Batch) take part in every sum with zeros and leave no gradients; their loss means nothing.
  LossValues run(const Tensor& images, const Tensor& targets, int64_t epoch, int64_t whole = 0,
                 bool counts = true);

  // The losses alone, without a teacher's parts, in the mode that the model is in.
  LossValues measure(const Tensor& images, const Tensor& targets, int64_t epoch) const;

  // Whether the last run() replayed a recording.
  bool replayed() const;

 private:
  struct Recording;
  LossValues pass(const Tensor& images, const PlacedTargets& targets, const LossStep& step) const;
  LossValues pass_without(const Tensor& images, const PlacedTargets& targets,
                          const LossStep& step) const;
  // `across`: of shared batch statistics.
  LossInput forward(const Variable& x, bool features, Communicator* across) const;
  TeacherOutput teach(const Variable& x) const;
  bool reuse_recording(const Tensor& targets, const LossStep& step);
  void begin(const Tensor& images, const Tensor& targets, const LossStep& step);
  void run_recording();

  const Yolov6& model_;
  const DetectionLoss& loss_;
  const Yolov6* teacher_;
  const optim::GradScaler* scaler_;
  TrainStepConfig config_;
  Device device_;
  Tensor one_;  // the gradient that backward starts from
  std::vector<Variable> parameters_;
  std::vector<Tensor>
      counters_;  // of batches, in the host's memory, which a recording cannot count
  std::unique_ptr<Recording> recording_;
  bool replayed_ = false;
};

}  // namespace sextant::apps
