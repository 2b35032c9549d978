#include "optim/ema.h"

#include <cmath>

#include "core/error.h"

namespace sextant::optim {

ModelEma::ModelEma(const NamedTensors& model, double decay, double tau)
    : decay_(decay), tau_(tau), updates_(Tensor::zeros({1}, DType::kI64)) {
  std::vector<int64_t> sizes;
  for (const auto& [name, tensor] : model) {
    check(tensor.defined(), "ema: tensor '{}' is not defined", name);
    if (tensor.dtype() != DType::kF32) continue;
    model_.emplace_back(name, tensor);
    average_.emplace_back(name, tensor.clone());
    sizes.push_back(tensor.numel());
  }
  pass_ = MultiTensor(sizes);
}

double ModelEma::decay_at(int64_t n) const {
  return decay_ * (1.0 - std::exp(-static_cast<double>(n) / tau_));
}

int64_t ModelEma::updates() const { return *updates_.data<int64_t>(); }

void ModelEma::update() {
  // ema += (1 - d)(model - ema): with d * ema + (1 - d) * model in f32 the rounded factors would
  // not sum to 1, and the average of a constant would drift 0.02% off it.
  const auto rest = static_cast<float>(1.0 - decay_at(++*updates_.data<int64_t>()));
  pass_.run([&](int64_t tensor, int64_t begin, int64_t end) {
    const auto i = static_cast<size_t>(tensor);
    const float* __restrict x = model_[i].second.f32();
    float* __restrict average = average_[i].second.f32();
#pragma omp simd
    for (int64_t k = begin; k < end; ++k) average[k] += rest * (x[k] - average[k]);
  });
}

void ModelEma::swap_with_model() {
  pass_.run([&](int64_t tensor, int64_t begin, int64_t end) {
    const auto i = static_cast<size_t>(tensor);
    float* __restrict x = model_[i].second.f32();
    float* __restrict average = average_[i].second.f32();
#pragma omp simd
    for (int64_t k = begin; k < end; ++k) {
      const float v = x[k];
      x[k] = average[k];
      average[k] = v;
    }
  });
}

NamedTensors ModelEma::state(const std::string& prefix) const {
  NamedTensors out;
  for (const auto& [name, tensor] : average_) out.emplace_back(prefix + name, tensor);
  out.emplace_back(prefix + "ema_updates", updates_);
  return out;
}

void ModelEma::load_state(const SafeTensors& file, const std::string& prefix) {
  for (const auto& [name, tensor] : state(prefix)) restore_tensor(file, name, tensor);
}

}  // namespace sextant::optim
