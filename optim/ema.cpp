// SPDX-License-Identifier: Apache-2.0
#include "optim/ema.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/backend.h"

namespace sextant::optim {

ModelEma::ModelEma(const NamedTensors& model, double decay, double tau)
    : decay_(decay), tau_(tau), updates_(Tensor::zeros({1}, DType::kI64)) {
  for (const auto& [name, tensor] : model) {
    check(tensor.defined(), "ema: tensor '{}' is not defined", name);
    if (tensor.dtype() != DType::kF32) continue;
    if (model_.empty()) entries_.device = tensor.device();
    model_.emplace_back(name, tensor);
    check(tensor.device() == device(), "ema: '{}' is on {}, '{}' on {}, expected one device", name,
          name_of(tensor.device()), model_[0].first, name_of(device()));
    average_.emplace_back(name, tensor.clone());
    kernels::UpdateTensor entry;
    entry.param = tensor.f32();
    entry.average = average_.back().second.f32();
    entry.n = tensor.numel();
    entries_.tensors.push_back(entry);
  }
}

double ModelEma::decay_at(int64_t n) const {
  return decay_ * (1.0 - std::exp(-static_cast<double>(n) / tau_));
}

int64_t ModelEma::updates() const { return *updates_.data<int64_t>(); }

double ModelEma::count() { return 1.0 - decay_at(++*updates_.data<int64_t>()); }

void ModelEma::update() {
  kernels::MultiTensorUpdate p;
  p.list = entries_.list();
  p.average_rest = count();
  kernels::backend(device()).multi_tensor_update(p);
}

void ModelEma::swap_with_model() {
  if (device() != Device::kCpu) {
    for (size_t i = 0; i < model_.size(); ++i) {
      const Tensor &model = model_[i].second, &average = average_[i].second;
      const Tensor before = model.clone();
      model.copy_from(average);
      average.copy_from(before);
    }
    return;
  }
  parallel_for(static_cast<int64_t>(model_.size()), 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const kernels::UpdateTensor& t = entries()[static_cast<size_t>(i)];
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
