// SPDX-License-Identifier: Apache-2.0
#include "optim/rep_handler.h"

#include <map>

#include "core/error.h"
#include "layers/blocks.h"

namespace sextant::optim {
namespace {

void check_handler(const RepHandler& handler, const Shape& target) {
  const std::string& name = handler.parameter;
  check(target.rank() == 4 && target[1] == target[2] && target[1] % 2 == 1,
        "rep optimizer: '{}' is {}, needs [O,k,k,I] with k odd", name, target.str());
  check(!handler.branches.empty(), "rep optimizer: '{}' has no branches", name);
  for (const LinearBranch& b : handler.branches) {
    check(
        b.scale.defined() && b.scale.dtype() == DType::kF32 && b.scale.shape() == Shape{target[0]},
        "rep optimizer: a scale of '{}' is {}, needs F32 [{}]", name,
        b.scale.defined() ? b.scale.shape().str() : "undefined", target[0]);
    if (b.kind == LinearBranch::Kind::kIdentity) {
      check(target[3] * handler.groups == target[0],
            "rep optimizer: '{}' {} (groups {}) cannot hold an identity", name, target.str(),
            handler.groups);
      continue;
    }
    check(b.kernel % 2 == 1 && b.kernel >= 1 && b.kernel <= target[1],
          "rep optimizer: a branch of '{}' {} has kernel {}, needs an odd one that fits", name,
          target.str(), b.kernel);
    const Shape shape{target[0], b.kernel, b.kernel, target[3]};
    check(!b.weight.defined() || (b.weight.dtype() == DType::kF32 && b.weight.shape() == shape),
          "rep optimizer: the {}x{} branch of '{}' starts from {}, needs {}", b.kernel, b.kernel,
          name, b.weight.shape().str(), shape.str());
  }
}

// out[o,:,:,i] += value(o, j) over the branch's elements, whose index in its own kernel is j (in
// the identity: 0).
template <class Value>
void add_branch(const LinearBranch& branch, const Tensor& out, const Value& value) {
  const Shape& shape = out.shape();
  const int64_t k = shape[1], inputs = shape[3], edge = (k - branch.kernel) / 2;
  float* p = out.f32();
  if (branch.kind == LinearBranch::Kind::kIdentity) {
    // Input channel o of the block is channel o % inputs of its group.
    for (int64_t o = 0; o < shape[0]; ++o)
      p[((o * k + k / 2) * k + k / 2) * inputs + o % inputs] += value(o, 0);
    return;
  }
  const int64_t row = branch.kernel * inputs;
  for (int64_t o = 0; o < shape[0]; ++o)
    for (int64_t y = 0; y < branch.kernel; ++y)
      for (int64_t j = 0; j < row; ++j)
        p[((o * k + edge + y) * k + edge) * inputs + j] +=
            value(o, (o * branch.kernel + y) * row + j);
}

// The parameter of each handler.
template <class Parameters>
auto find_parameters(const std::vector<RepHandler>& handlers, Parameters& parameters) {
  std::map<std::string, decltype(parameters.data())> by_name;
  for (auto& p : parameters) by_name[p.name] = &p;
  std::vector<decltype(parameters.data())> found;
  for (const RepHandler& handler : handlers) {
    const auto it = by_name.find(handler.parameter);
    check(it != by_name.end(),
          "rep optimizer: parameter '{}' is missing, or claimed by two handlers",
          handler.parameter);
    found.push_back(it->second);
    by_name.erase(it);
  }
  return found;
}

}  // namespace

Tensor reinitialised(const RepHandler& handler, const Tensor& target, Rng& rng) {
  check_handler(handler, target.shape());
  const Tensor out = Tensor::zeros(target.shape());
  bool target_used = false;
  for (const LinearBranch& b : handler.branches) {
    const float* scale = b.scale.f32();
    if (b.kind == LinearBranch::Kind::kIdentity) {
      add_branch(b, out, [&](int64_t o, int64_t) { return scale[o]; });
      continue;
    }
    Tensor weight = b.weight;
    if (!weight.defined() && b.kernel == target.dim(1) && !target_used) {
      weight = target;
      target_used = true;
    } else if (!weight.defined()) {
      weight = Conv2d(target.dim(3), target.dim(0), b.kernel, {}, false, rng).weight.data();
    }
    const float* w = weight.f32();
    add_branch(b, out, [&](int64_t o, int64_t j) { return scale[o] * w[j]; });
  }
  return out;
}

Tensor multipliers(const RepHandler& handler, const Shape& target, RepRule rule) {
  check_handler(handler, target);
  const Tensor out = Tensor::zeros(target);
  for (const LinearBranch& b : handler.branches) {
    const float* scale = b.scale.f32();
    add_branch(b, out, [&](int64_t o, int64_t) {
      if (b.kind == LinearBranch::Kind::kIdentity) return 1.0f;
      return rule == RepRule::kSgd ? scale[o] * scale[o] : scale[o];
    });
  }
  return out;
}

void reinitialise(const std::vector<RepHandler>& handlers,
                  const std::vector<NamedParameter>& parameters, Rng& rng) {
  const auto targets = find_parameters(handlers, parameters);
  for (size_t i = 0; i < handlers.size(); ++i) {
    const Tensor& weight = targets[i]->variable.data();
    weight.copy_from(reinitialised(handlers[i], weight.to(Device::kCpu), rng));
  }
}

void set_multipliers(const std::vector<RepHandler>& handlers,
                     std::vector<NamedParameter>& parameters, RepRule rule) {
  const auto targets = find_parameters(handlers, parameters);
  for (size_t i = 0; i < handlers.size(); ++i) {
    targets[i]->multiplier = multipliers(handlers[i], targets[i]->variable.shape(), rule);
  }
}

}  // namespace sextant::optim
