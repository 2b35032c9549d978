#include "optim/sgd.h"

namespace sextant::optim {

Sgd::Sgd(const std::vector<NamedParameter>& parameters, const SgdOptions& options)
    : Optimizer(parameters), options_(options), buffers_(zeros_like_parameters()) {}

NamedTensors Sgd::state(const std::string& prefix) const {
  NamedTensors out;
  append_state(out, prefix + "momentum_buffer.", buffers_);
  return out;
}

void Sgd::prepare(const std::array<double, kGroups>& lr, double momentum,
                  const std::vector<const float*>& /*grads*/) {
  for (size_t g = 0; g < lr.size(); ++g) lr_[g] = static_cast<float>(lr[g]);
  momentum_ = static_cast<float>(momentum);
}

void Sgd::update(size_t i, const float* grad, int64_t begin, int64_t end) const {
  const NamedParameter& parameter = parameters()[i];
  const float decay =
      parameter.kind == ParameterKind::kWeight ? static_cast<float>(options_.weight_decay) : 0.0f;
  const float lr = lr_[static_cast<size_t>(parameter.kind)];
  const float m = momentum_;
  float* __restrict p = parameter.variable.f32();
  float* __restrict buffer = buffers_[i].f32();
  if (options_.nesterov) {
#pragma omp simd
    for (int64_t k = begin; k < end; ++k) {
      const float g = grad[k] + decay * p[k];
      const float b = m * buffer[k] + g;
      buffer[k] = b;
      p[k] -= lr * (g + m * b);
    }
  } else {
#pragma omp simd
    for (int64_t k = begin; k < end; ++k) {
      const float b = m * buffer[k] + (grad[k] + decay * p[k]);
      buffer[k] = b;
      p[k] -= lr * b;
    }
  }
}

}  // namespace sextant::optim
