// SPDX-License-Identifier: Apache-2.0
// Adam and AdamW, as torch.optim.Adam / AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019):
//
//   Adam:  g = grad + weight_decay * p        AdamW:  p *= 1 - lr * weight_decay, g = grad
//   m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2
//   p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//
// With a multiplier (RepOptimizer, official repoptimizer/repoptimizer_adamw.py), `grad` is
// multiplied by it, and so is the update subtracted from p, because m / sqrt(v) cancels a factor of
// g.
//
// t counts the updates of each parameter separately, because one without a gradient is skipped.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "optim/optimizer.h"

namespace sextant::optim {

struct AdamOptions {
  double weight_decay = 0.0;  // of the kWeight group
  bool decoupled = false;     // true: AdamW
  double beta1 = 0.9;         // the official YOLOv6 passes its momentum, 0.937
  double beta2 = 0.999;
  double eps = 1e-8;
};

class Adam : public Optimizer {
 public:
  Adam(const std::vector<NamedParameter>& parameters, const AdamOptions& options);

  // "<prefix>exp_avg.<name>", "<prefix>exp_avg_sq.<name>" (F32, the parameter's shape) and
  // "<prefix>step.<name>" (I64, one value).
  NamedTensors state(const std::string& prefix) const override;

 protected:
  // `momentum` is not used.
  kernels::MultiTensorUpdate rule(const std::array<double, kGroups>& lr,
                                  double momentum) const override;

 private:
  AdamOptions options_;
  std::vector<Tensor> mean_;
  std::vector<Tensor> square_;
  std::vector<Tensor> steps_;
};

}  // namespace sextant::optim
