// SPDX-License-Identifier: Apache-2.0
#include "optim/sgd.h"

#include <algorithm>

namespace sextant::optim {

Sgd::Sgd(const std::vector<NamedParameter>& parameters, const SgdOptions& options)
    : Optimizer(parameters), options_(options), buffers_(zeros_like_parameters()) {
  for (size_t i = 0; i < buffers_.size(); ++i) entries()[i].moment = buffers_[i].f32();
}

NamedTensors Sgd::state(const std::string& prefix) const {
  NamedTensors out;
  append_state(out, prefix + "momentum_buffer.", buffers_);
  return out;
}

kernels::MultiTensorUpdate Sgd::rule(const std::array<double, kGroups>& lr, double momentum) const {
  kernels::MultiTensorUpdate p;
  p.rule = kernels::UpdateRule::kSgd;
  std::copy(lr.begin(), lr.end(), p.lr);
  p.decay[static_cast<size_t>(ParameterKind::kWeight)] = options_.weight_decay;
  p.momentum = momentum;
  p.nesterov = options_.nesterov;
  return p;
}

}  // namespace sextant::optim
