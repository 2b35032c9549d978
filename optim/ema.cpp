#include "optim/ema.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"

namespace sextant::optim {

ModelEma::ModelEma(const NamedTensors& model, double decay, double tau)
    : decay_(decay), tau_(tau), updates_(Tensor::zeros({1}, DType::kI64)) {
  for (const auto& [name, tensor] : model) {
    check(tensor.defined(), "ema: tensor '{}' is not defined", name);
    if (tensor.dtype() != DType::kF32) continue;
    model_.emplace_back(name, tensor);
    average_.emplace_back(name, tensor.clone());
    kernels::UpdateTensor entry;
    entry.param = tensor.f32();
    entry.average = average_.back().second.f32();
    entry.n = tensor.numel();
    entries_.push_back(entry);
  }
  pieces_ = kernels::cut_into_pieces(entries_);
}

double ModelEma::decay_at(int64_t n) const {
  return decay_ * (1.0 - std::exp(-static_cast<double>(n) / tau_));
}

int64_t ModelEma::updates() const { return *updates_.data<int64_t>(); }

void ModelEma::update() {
  kernels::MultiTensorUpdate p;
  p.list = {entries_.data(), static_cast<int64_t>(entries_.size()), pieces_.data(),
            static_cast<int64_t>(pieces_.size())};
  p.average_rest = 1.0 - decay_at(++*updates_.data<int64_t>());
  kernels::cpu::multi_tensor_update(p);
}

void ModelEma::swap_with_model() {
  parallel_for(static_cast<int64_t>(entries_.size()), 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const kernels::UpdateTensor& t = entries_[static_cast<size_t>(i)];
      std::swap_ranges(t.param, t.param + t.n, t.average);
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
