// SPDX-License-Identifier: Apache-2.0
#include "optim/grad_scaler.h"

namespace sextant::optim {

GradScaler::GradScaler(Device device, const GradScalerOptions& options)
    : options_(options),
      scale_(Tensor::full({1}, options.scale, device)),
      good_steps_(Tensor::zeros({1}, DType::kI32, device)),
      overflow_(Tensor::zeros({1}, DType::kI32, device)) {
  check(options.scale > 0 && options.growth > 0 && options.interval > 0 && options.backoff > 0 &&
            options.backoff <= 1,
        "grad scaler: scale {}, growth {}, backoff {}, interval {}; expected positive ones, and a "
        "backoff up to 1",
        options.scale, options.growth, options.backoff, options.interval);
}

void GradScaler::backward(const Variable& loss) const {
  check(loss.data().numel() == 1 && loss.data().device() == scale_.device(),
        "grad scaler: loss {} on {}, expected a scalar on {}", loss.shape().str(),
        name_of(loss.data().device()), name_of(scale_.device()));
  sextant::backward({{loss, scale_.reshape(loss.shape())}});
}

void GradScaler::step(Optimizer& optimizer, const std::array<double, kGroups>& lr,
                      double momentum) {
  const kernels::UpdateLossScale scaling{scale_.f32(),
                                         good_steps_.data<int32_t>(),
                                         overflow_.data<int32_t>(),
                                         options_.growth,
                                         options_.backoff,
                                         options_.interval};
  optimizer.step(lr, momentum, &scaling);
}

NamedTensors GradScaler::state(const std::string& prefix) const {
  return {{prefix + "scale", scale_}, {prefix + "good_steps", good_steps_}};
}

void GradScaler::load_state(const SafeTensors& file, const std::string& prefix) {
  for (const auto& [name, tensor] : state(prefix)) restore_tensor(file, name, tensor);
}

}  // namespace sextant::optim
