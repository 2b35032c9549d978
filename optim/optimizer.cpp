#include "optim/optimizer.h"

#include <set>

#include "core/error.h"

namespace sextant::optim {

Optimizer::Optimizer(const std::vector<NamedParameter>& parameters) {
  std::set<std::string> names;
  std::set<const void*> ids;
  for (const NamedParameter& p : parameters) {
    check(p.variable.defined() && p.variable.data().dtype() == DType::kF32,
          "optimizer: parameter '{}' is not a defined F32 tensor", p.name);
    check(names.insert(p.name).second, "optimizer: parameter '{}' is given twice", p.name);
    check(ids.insert(p.variable.id()).second,
          "optimizer: parameter '{}' is the same Variable as another", p.name);
    check(!p.multiplier.defined() ||
              (p.multiplier.dtype() == DType::kF32 && p.multiplier.shape() == p.variable.shape()),
          "optimizer: multiplier of '{}' is {} {}, the parameter F32 {}", p.name,
          name_of(p.multiplier.dtype()), p.multiplier.shape().str(), p.variable.shape().str());
    all_.push_back(p.variable);
    if (p.kind == ParameterKind::kFrozen) continue;
    parameters_.push_back(p);
    kernels::UpdateTensor entry;
    entry.n = p.variable.data().numel();
    entry.group = static_cast<int32_t>(p.kind);
    if (p.multiplier.defined()) entry.multiplier = p.multiplier.f32();
    entries_.push_back(entry);
  }
  pieces_ = kernels::cut_into_pieces(entries_);
}

void Optimizer::step(const std::array<double, kGroups>& lr, double momentum) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const NamedParameter& p = parameters_[i];
    const Tensor& grad = p.variable.grad();
    entries_[i].param = p.variable.f32();
    entries_[i].grad = nullptr;
    if (!grad.defined()) continue;
    check(grad.dtype() == DType::kF32 && grad.numel() == p.variable.data().numel(),
          "optimizer: gradient of '{}' is {} {}, the parameter F32 {}", p.name,
          name_of(grad.dtype()), grad.shape().str(), p.variable.shape().str());
    entries_[i].grad = grad.f32();
  }
  kernels::MultiTensorUpdate update = rule(lr, momentum);
  update.list = {entries_.data(), static_cast<int64_t>(entries_.size()), pieces_.data(),
                 static_cast<int64_t>(pieces_.size())};
  kernels::cpu::multi_tensor_update(update);
}

void Optimizer::zero_grad() const {
  for (const Variable& v : all_) v.clear_grad();
}

void Optimizer::load_state(const SafeTensors& file, const std::string& prefix) {
  for (const auto& [name, tensor] : state(prefix)) restore_tensor(file, name, tensor);
}

std::vector<Tensor> Optimizer::zeros_like_parameters() const {
  std::vector<Tensor> tensors;
  for (const NamedParameter& p : parameters_) tensors.push_back(Tensor::zeros(p.variable.shape()));
  return tensors;
}

void Optimizer::append_state(NamedTensors& out, const std::string& prefix,
                             const std::vector<Tensor>& tensors) const {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    out.emplace_back(prefix + parameters_[i].name, tensors[i]);
  }
}

}  // namespace sextant::optim
