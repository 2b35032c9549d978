#include "optim/sgd.h"

namespace sextant::optim {
namespace {

struct Pass {
  float* p = nullptr;
  float* buffer = nullptr;
  const float* grad = nullptr;
  const float* multiplier = nullptr;
  float lr = 0;
  float momentum = 0;
  float decay = 0;
};

template <bool kNesterov, bool kMultiplied>
void run(const Pass& pass, int64_t begin, int64_t end) {
  const float lr = pass.lr, m = pass.momentum, decay = pass.decay;
  const float* grad = pass.grad;
  const float* multiplier = pass.multiplier;
  float* __restrict p = pass.p;
  float* __restrict buffer = pass.buffer;
#pragma omp simd
  for (int64_t k = begin; k < end; ++k) {
    const float scaled = kMultiplied ? multiplier[k] * grad[k] : grad[k];
    const float g = scaled + decay * p[k];
    const float b = m * buffer[k] + g;
    buffer[k] = b;
    p[k] -= lr * (kNesterov ? g + m * b : b);
  }
}

}  // namespace

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
  Pass pass;
  pass.p = parameter.variable.f32();
  pass.buffer = buffers_[i].f32();
  pass.grad = grad;
  pass.lr = lr_[static_cast<size_t>(parameter.kind)];
  pass.momentum = momentum_;
  if (parameter.kind == ParameterKind::kWeight) {
    pass.decay = static_cast<float>(options_.weight_decay);
  }
  if (parameter.multiplier.defined()) {
    pass.multiplier = parameter.multiplier.f32();
    options_.nesterov ? run<true, true>(pass, begin, end) : run<false, true>(pass, begin, end);
  } else {
    options_.nesterov ? run<true, false>(pass, begin, end) : run<false, false>(pass, begin, end);
  }
}

}  // namespace sextant::optim
