// Dynamic loss scaling for training in f16, whose smallest positive number is 6e-8: the loss is
// multiplied by a factor, so that small gradients do not vanish, and the gradients are divided by
// it in the optimizer's step. As torch.amp.GradScaler: a step whose gradients are not all finite is
// left out and the scale halved; after `interval` steps without one it is doubled.
//
//   GradScaler scaler(Device::kCuda);
//   scaler.backward(loss);                      // once or, accumulating, several times
//   scaler.step(optimizer, lr, momentum);       // instead of optimizer.step(lr, momentum)
//
// Scale and counts lie on the device, where they are read and changed: nothing waits for it.
#pragma once

#include <array>
#include <string>

#include "core/variable.h"
#include "optim/optimizer.h"

namespace sextant::optim {

struct GradScalerOptions {
  float scale = 65536.0f;  // at first
  float growth = 2.0f;
  float backoff = 0.5f;
  int32_t interval = 2000;  // steps
};

class GradScaler {
 public:
  // Throws Error for a scale, growth or interval that is not positive, or a backoff outside (0, 1].
  explicit GradScaler(Device device, const GradScalerOptions& options = {});

  // backward(loss), all gradients times the scale. `loss` is a scalar on the scaler's device.
  void backward(const Variable& loss) const;
  // optimizer.step() with the scale taken out again, or without effect on the parameters after an
  // overflow; an average that the optimizer keeps (average_into) goes on in either case.
  void step(Optimizer& optimizer, const std::array<double, kGroups>& lr, double momentum);

  // [1], on the device: the gradient that backward() starts from.
  const Tensor& scale() const { return scale_; }

  // "<prefix>scale" (F32 [1]) and "<prefix>good_steps" (I32 [1]), sharing the scaler's memory.
  NamedTensors state(const std::string& prefix) const;
  // The reverse. Throws Error naming file and tensor when one is missing or of another shape.
  void load_state(const SafeTensors& file, const std::string& prefix);

 private:
  GradScalerOptions options_;
  Tensor scale_, good_steps_, overflow_;
};

}  // namespace sextant::optim
