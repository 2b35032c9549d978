#include "optim/adam.h"

#include <cmath>

namespace sextant::optim {

Adam::Adam(const std::vector<NamedParameter>& parameters, const AdamOptions& options)
    : Optimizer(parameters),
      options_(options),
      mean_(zeros_like_parameters()),
      square_(zeros_like_parameters()),
      scalars_(this->parameters().size()) {
  for (size_t i = 0; i < this->parameters().size(); ++i) {
    steps_.push_back(Tensor::zeros({1}, DType::kI64));
  }
}

NamedTensors Adam::state(const std::string& prefix) const {
  NamedTensors out;
  append_state(out, prefix + "exp_avg.", mean_);
  append_state(out, prefix + "exp_avg_sq.", square_);
  append_state(out, prefix + "step.", steps_);
  return out;
}

void Adam::prepare(const std::array<double, kGroups>& lr, double /*momentum*/,
                   const std::vector<const float*>& grads) {
  for (size_t i = 0; i < grads.size(); ++i) {
    if (grads[i] == nullptr) continue;
    const ParameterKind kind = parameters()[i].kind;
    const double decay = kind == ParameterKind::kWeight ? options_.weight_decay : 0.0;
    const double rate = lr[static_cast<size_t>(kind)];
    const auto t = static_cast<double>(++*steps_[i].data<int64_t>());
    Scalars& s = scalars_[i];
    s.keep = options_.decoupled ? static_cast<float>(1.0 - rate * decay) : 1.0f;
    s.decay = options_.decoupled ? 0.0f : static_cast<float>(decay);
    s.step_size = static_cast<float>(rate / (1.0 - std::pow(options_.beta1, t)));
    s.correction = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(options_.beta2, t)));
  }
}

template <bool kMultiplied>
void Adam::run(size_t i, const float* grad, int64_t begin, int64_t end) const {
  const Scalars s = scalars_[i];
  const auto beta1 = static_cast<float>(options_.beta1);
  const auto beta2 = static_cast<float>(options_.beta2);
  const auto rest1 = static_cast<float>(1.0 - options_.beta1);
  const auto rest2 = static_cast<float>(1.0 - options_.beta2);
  const auto eps = static_cast<float>(options_.eps);
  const float* multiplier = kMultiplied ? parameters()[i].multiplier.f32() : nullptr;
  float* __restrict p = parameters()[i].variable.f32();
  float* __restrict mean = mean_[i].f32();
  float* __restrict square = square_[i].f32();
#pragma omp simd
  for (int64_t k = begin; k < end; ++k) {
    const float factor = kMultiplied ? multiplier[k] : 1.0f;
    const float g = factor * grad[k] + s.decay * p[k];
    const float m = beta1 * mean[k] + rest1 * g;
    const float v = beta2 * square[k] + rest2 * g * g;
    mean[k] = m;
    square[k] = v;
    p[k] = s.keep * p[k] - factor * (s.step_size * m / (std::sqrt(v) * s.correction + eps));
  }
}

void Adam::update(size_t i, const float* grad, int64_t begin, int64_t end) const {
  if (parameters()[i].multiplier.defined()) {
    run<true>(i, grad, begin, end);
  } else {
    run<false>(i, grad, begin, end);
  }
}

}  // namespace sextant::optim
