// SPDX-License-Identifier: Apache-2.0
// Stochastic gradient descent with momentum, as torch.optim.SGD (dampening 0):
//
//   g   = multiplier * grad + weight_decay * p     (decay: weights only; see param_groups.h)
//   buf = momentum * buf + g               (buf = g at first, the same as starting from 0)
//   p  -= lr * (nesterov ? g + momentum * buf : buf)
//
// Parameters without a multiplier use the plain rule.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "optim/optimizer.h"

namespace sextant::optim {

struct SgdOptions {
  double weight_decay = 0.0;  // of the kWeight group
  bool nesterov = true;
};

class Sgd : public Optimizer {
 public:
  Sgd(const std::vector<NamedParameter>& parameters, const SgdOptions& options);

  // "<prefix>momentum_buffer.<name>", F32, one per parameter.
  NamedTensors state(const std::string& prefix) const override;

 protected:
  kernels::MultiTensorUpdate rule(const std::array<double, kGroups>& lr,
                                  double momentum) const override;

 private:
  SgdOptions options_;
  std::vector<Tensor> buffers_;
};

}  // namespace sextant::optim
