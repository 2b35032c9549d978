// SPDX-License-Identifier: Apache-2.0
#include "optim/adam.h"

#include <algorithm>

namespace sextant::optim {

Adam::Adam(const std::vector<NamedParameter>& parameters, const AdamOptions& options)
    : Optimizer(parameters),
      options_(options),
      mean_(zeros_like_parameters()),
      square_(zeros_like_parameters()) {
  for (size_t i = 0; i < mean_.size(); ++i) {
    steps_.push_back(Tensor::zeros({1}, DType::kI64, device()));
    entries()[i].moment = mean_[i].f32();
    entries()[i].square = square_[i].f32();
    entries()[i].step = steps_[i].data<int64_t>();
  }
}

NamedTensors Adam::state(const std::string& prefix) const {
  NamedTensors out;
  append_state(out, prefix + "exp_avg.", mean_);
  append_state(out, prefix + "exp_avg_sq.", square_);
  append_state(out, prefix + "step.", steps_);
  return out;
}

kernels::MultiTensorUpdate Adam::rule(const std::array<double, kGroups>& lr,
                                      double /*momentum*/) const {
  kernels::MultiTensorUpdate p;
  p.rule = kernels::UpdateRule::kAdam;
  std::copy(lr.begin(), lr.end(), p.lr);
  p.decay[static_cast<size_t>(ParameterKind::kWeight)] = options_.weight_decay;
  p.decoupled = options_.decoupled;
  p.beta1 = options_.beta1;
  p.beta2 = options_.beta2;
  p.eps = options_.eps;
  return p;
}

}  // namespace sextant::optim
