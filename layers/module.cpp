// SPDX-License-Identifier: Apache-2.0
#include "layers/module.h"

#include <algorithm>
#include <set>

#include "core/values.h"

namespace sextant {

Tensor to_file_layout(const Tensor& t, Layout layout) {
  if (layout == Layout::kConv) return nhwc_to_nchw(t);
  if (layout == Layout::kConvTranspose) return ohwi_to_iohw(t);
  return t;
}

Tensor from_file_layout(const Tensor& t, Layout layout) {
  if (layout == Layout::kConv) return nchw_to_nhwc(t);
  if (layout == Layout::kConvTranspose) return iohw_to_ohwi(t);
  return t;
}

void Module::collect(const std::string& prefix, std::vector<ParameterRef>* parameters,
                     std::vector<BufferRef>* buffers, std::vector<StateRef>* state) const {
  for (const auto& p : parameters_) {
    if (parameters) parameters->push_back({prefix + p.name, p.variable, p.layout});
    if (state) state->push_back({prefix + p.name, p.variable.data(), p.layout});
  }
  for (const auto& b : buffers_) {
    if (buffers) buffers->push_back({prefix + b.name, b.tensor});
    if (state) state->push_back({prefix + b.name, b.tensor, Layout::kPlain});
  }
  for (const auto& [name, child] : children_)
    child->collect(prefix + name + ".", parameters, buffers, state);
}

std::vector<ParameterRef> Module::parameters() const {
  std::vector<ParameterRef> out;
  collect("", &out, nullptr, nullptr);
  return out;
}

std::vector<BufferRef> Module::buffers() const {
  std::vector<BufferRef> out;
  collect("", nullptr, &out, nullptr);
  return out;
}

std::vector<StateRef> Module::state() const {
  std::vector<StateRef> out;
  collect("", nullptr, nullptr, &out);
  return out;
}

void Module::train(bool on) {
  training_ = on && !frozen_;
  for (const auto& [name, child] : children_) child->train(on);
}

void Module::freeze() {
  frozen_ = true;
  training_ = false;
  for (auto& p : parameters_) p.variable.set_requires_grad(false);
  for (const auto& [name, child] : children_) child->freeze();
}

void Module::to(Device device) const {
  for (const auto& p : parameters()) {
    p.variable.data().move_to(device);
    p.variable.clear_grad();
  }
  for (const auto& b : buffers())
    if (b.tensor.dtype() == DType::kF32) b.tensor.move_to(device);
}

Module* Module::find(std::string_view path) {
  if (path.empty()) return this;
  const size_t dot = std::min(path.find('.'), path.size());
  for (const auto& [name, child] : children_)
    if (name == path.substr(0, dot))
      return child->find(path.substr(std::min(dot + 1, path.size())));
  return nullptr;
}

void Module::save_state(SafeTensors& file, const std::string& prefix) const {
  for (const auto& s : state()) {
    const bool copied = s.tensor.device() != Device::kCpu || s.layout != Layout::kPlain;
    const Tensor t = to_file_layout(s.tensor.to(Device::kCpu), s.layout);
    file.add(prefix + s.name, copied ? t : t.clone());
  }
}

void Module::load_state(const SafeTensors& file, const std::string& prefix) {
  std::set<std::string> known;
  std::vector<std::pair<Tensor, Tensor>> copies;  // all checked before any is written
  for (const auto& s : state()) {
    known.insert(prefix + s.name);
    const Tensor& t = file.at(prefix + s.name);
    check(t.shape().rank() == s.tensor.shape().rank() && t.dtype() == s.tensor.dtype(),
          "{}: tensor '{}' is {} {}, expected {} of rank {}", file.path, prefix + s.name,
          name_of(t.dtype()), t.shape().str(), name_of(s.tensor.dtype()), s.tensor.shape().rank());
    const Tensor here = from_file_layout(t, s.layout);
    check(
        here.shape() == s.tensor.shape(), "{}: tensor '{}' has shape {}, expected {}", file.path,
        prefix + s.name, t.shape().str(),
        to_file_layout(Tensor::zeros(s.tensor.shape(), s.tensor.dtype()), s.layout).shape().str());
    check_values(t, prefix + s.name, file.path);
    copies.emplace_back(s.tensor, here);
  }
  for (const auto& [name, t] : file.tensors)
    check(!name.starts_with(prefix) || known.contains(name),
          "{}: tensor '{}' is not part of this model", file.path, name);
  for (const auto& [to, from] : copies) to.copy_from(from);
}

Variable Module::register_parameter(const std::string& name, Tensor init, Layout layout) {
  parameters_.push_back({name, Variable(std::move(init), true), layout});
  return parameters_.back().variable;
}

Tensor Module::register_buffer(const std::string& name, Tensor init) {
  buffers_.push_back({name, std::move(init)});
  return buffers_.back().tensor;
}

}  // namespace sextant
