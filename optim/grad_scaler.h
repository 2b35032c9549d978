// SPDX-License-Identifier: Apache-2.0
// Dynamic loss scaling for training in f16, whose smallest positive number is 6e-8. The loss is
// multiplied by a factor, so that small gradients do not underflow, and the gradients are divided
// by it in the optimizer's step. As in torch.amp.GradScaler, a step whose gradients are not all
// finite is skipped and the scale is halved; after `interval` steps without an overflow it is
// doubled.
//
//   GradScaler scaler(Device::kCuda);
//   scaler.backward(loss);                      // several times when accumulating
//   scaler.step(optimizer, lr, momentum);       // instead of optimizer.step(lr, momentum)
//
// Scale and counts lie on the device and are read and changed there, so nothing waits for it.
#pragma once

#include <array>
#include <string>

#include "core/variable.h"
#include "optim/optimizer.h"

namespace sextant::optim {

struct GradScalerOptions {
  float scale = 65536.0f;  // initial value
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
  // optimizer.step() on unscaled gradients; after an overflow the parameters do not change. A
  // moving average that the optimizer keeps (average_into) is updated in either case.
  void step(Optimizer& optimizer, const std::array<double, kGroups>& lr, double momentum);

  // [1], on the device: the gradient that backward() starts from.
  const Tensor& scale() const { return scale_; }

  // "<prefix>scale" (F32 [1]) and "<prefix>good_steps" (I32 [1]), sharing the scaler's memory.
  NamedTensors state(const std::string& prefix) const;
  // The reverse. Throws Error naming file and tensor when one is missing or has another shape.
  void load_state(const SafeTensors& file, const std::string& prefix);

 private:
  GradScalerOptions options_;
  Tensor scale_, good_steps_, overflow_;
};

}  // namespace sextant::optim
