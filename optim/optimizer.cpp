#include "optim/optimizer.h"

#include <set>

#include "core/error.h"

namespace sextant::optim {

Optimizer::Optimizer(const std::vector<NamedParameter>& parameters) {
  std::set<std::string> names;
  std::set<const void*> ids;
  std::vector<int64_t> sizes;
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
    sizes.push_back(p.variable.data().numel());
  }
  pass_ = MultiTensor(sizes);
  grads_.resize(parameters_.size());
}

void Optimizer::step(const std::array<double, kGroups>& lr, double momentum) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const NamedParameter& p = parameters_[i];
    const Tensor& grad = p.variable.grad();
    grads_[i] = nullptr;
    if (!grad.defined()) continue;
    check(grad.dtype() == DType::kF32 && grad.numel() == p.variable.data().numel(),
          "optimizer: gradient of '{}' is {} {}, the parameter F32 {}", p.name,
          name_of(grad.dtype()), grad.shape().str(), p.variable.shape().str());
    grads_[i] = grad.f32();
  }
  prepare(lr, momentum, grads_);
  pass_.run([&](int64_t tensor, int64_t begin, int64_t end) {
    const auto i = static_cast<size_t>(tensor);
    if (grads_[i] != nullptr) update(i, grads_[i], begin, end);
  });
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
