// SPDX-License-Identifier: Apache-2.0
#include "optim/optimizer.h"

#include <map>
#include <set>

#include "core/error.h"
#include "core/profile_range.h"
#include "kernels/backend.h"

namespace sextant::optim {

Optimizer::Optimizer(const std::vector<NamedParameter>& parameters) {
  std::set<std::string> names;
  std::set<const void*> ids;
  if (!parameters.empty()) entries_.device = parameters[0].variable.data().device();
  for (const NamedParameter& p : parameters) {
    check(p.variable.defined() && p.variable.data().dtype() == DType::kF32,
          "optimizer: parameter '{}' is not a defined F32 tensor", p.name);
    check(names.insert(p.name).second, "optimizer: duplicate parameter '{}'", p.name);
    check(ids.insert(p.variable.id()).second,
          "optimizer: parameter '{}' is the same Variable as another", p.name);
    check(!p.multiplier.defined() ||
              (p.multiplier.dtype() == DType::kF32 && p.multiplier.shape() == p.variable.shape()),
          "optimizer: multiplier of '{}' is {} {}, the parameter F32 {}", p.name,
          name_of(p.multiplier.dtype()), p.multiplier.shape().str(), p.variable.shape().str());
    check(p.variable.data().device() == device(),
          "optimizer: parameter '{}' is on {}, '{}' on {}, expected one device", p.name,
          name_of(p.variable.data().device()), parameters[0].name, name_of(device()));
    all_.push_back(p.variable);
    if (p.kind == ParameterKind::kFrozen) continue;
    parameters_.push_back(p);
    const Tensor& multiplier = parameters_.back().multiplier = p.multiplier.to(device());
    kernels::UpdateTensor entry;
    entry.param = p.variable.f32();
    entry.n = p.variable.data().numel();
    entry.group = static_cast<int32_t>(p.kind);
    if (multiplier.defined()) entry.multiplier = multiplier.f32();
    entries().push_back(entry);
  }
}

void Optimizer::step(const std::array<double, kGroups>& lr, double momentum,
                     const kernels::UpdateLossScale* scaling) {
  const ProfileRange range("optimizer");
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const NamedParameter& p = parameters_[i];
    const Tensor& grad = p.variable.grad();
    entries()[i].param = p.variable.f32();
    entries()[i].grad = nullptr;
    if (!grad.defined()) continue;
    check(grad.dtype() == DType::kF32 && grad.numel() == p.variable.data().numel(),
          "optimizer: gradient of '{}' is {} {}, the parameter F32 {}", p.name,
          name_of(grad.dtype()), grad.shape().str(), p.variable.shape().str());
    check(grad.device() == device(), "optimizer: gradient of '{}' is on {}, expected {}", p.name,
          name_of(grad.device()), name_of(device()));
    entries()[i].grad = grad.f32();
  }
  kernels::MultiTensorUpdate update = rule(lr, momentum);
  update.list = entries_.list();
  if (ema_) update.average_rest = ema_->count();
  const kernels::Backend& backend = kernels::backend(device());
  if (!scaling) return backend.multi_tensor_update(update);
  backend.find_overflow({update.list, scaling->overflow});
  update.loss_scale = scaling->scale;
  update.overflow = scaling->overflow;
  backend.multi_tensor_update(update);
  backend.update_loss_scale(*scaling);
}

void Optimizer::average_into(ModelEma& ema) {
  check(!ema_, "optimizer: already has a moving average");
  check(ema.device() == device(), "optimizer: the average is on {}, the parameters on {}",
        name_of(ema.device()), name_of(device()));
  std::map<const float*, size_t> of_parameter;
  for (size_t i = 0; i < parameters_.size(); ++i) of_parameter[entries()[i].param] = i;
  for (const kernels::UpdateTensor& t : ema.entries()) {
    const auto it = of_parameter.find(t.param);
    if (it == of_parameter.end())
      entries().push_back(t);  // a running statistic, a frozen parameter
    else
      entries()[it->second].average = t.average;
  }
  ema_ = &ema;
}

void Optimizer::zero_grad() const {
  for (const Variable& v : all_) v.clear_grad();
}

void Optimizer::load_state(const SafeTensors& file, const std::string& prefix) {
  for (const auto& [name, tensor] : state(prefix)) restore_tensor(file, name, tensor);
}

std::vector<Tensor> Optimizer::zeros_like_parameters() const {
  std::vector<Tensor> tensors;
  for (const NamedParameter& p : parameters_)
    tensors.push_back(Tensor::zeros(p.variable.shape(), DType::kF32, device()));
  return tensors;
}

void Optimizer::append_state(NamedTensors& out, const std::string& prefix,
                             const std::vector<Tensor>& tensors) const {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    out.emplace_back(prefix + parameters_[i].name, tensors[i]);
  }
}

}  // namespace sextant::optim
