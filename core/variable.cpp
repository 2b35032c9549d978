// SPDX-License-Identifier: Apache-2.0
#include "core/variable.h"

#include <unordered_map>

#include "core/gradient_observer.h"
#include "core/parallel.h"
#include "core/profile_range.h"

namespace sextant {
namespace {

thread_local bool recording = true;

// dst += src: f32, on a device 16-bit floats too.
void add_into(const Tensor& dst, const Tensor& src) {
  if (dst.device() != Device::kCpu)
    return accelerator().add_into(dst.raw(), src.raw(), dst.numel(), dst.dtype(), compute_stream());
  float* d = dst.f32();
  const float* s = src.f32();
  parallel_for(dst.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) d[i] += s[i];
  });
}

// Other code may still hold the gradient tensors that arrive; only a sole owner adds in place.
void accumulate(Tensor& into, Tensor grad) {
  if (!into.defined()) {
    into = std::move(grad);
    return;
  }
  check(into.shape() == grad.shape() && into.device() == grad.device() &&
            into.dtype() == grad.dtype(),
        "backward: gradients {} {} on {} and {} {} on {} of one variable", name_of(into.dtype()),
        into.shape().str(), name_of(into.device()), name_of(grad.dtype()), grad.shape().str(),
        name_of(grad.device()));
  if (!into.unique()) {
    if (grad.unique())
      std::swap(into, grad);
    else
      into = into.clone();
  }
  add_into(into, grad);
}

}  // namespace

void Variable::add_grad(Tensor grad) const { accumulate(meta_->grad, std::move(grad)); }

namespace autograd {

Node::~Node() {
  std::vector<std::shared_ptr<Meta>> stack = std::move(inputs);
  while (!stack.empty()) {
    std::shared_ptr<Meta> meta = std::move(stack.back());
    stack.pop_back();
    if (meta.use_count() != 1 || !meta->node || meta->node.use_count() != 1) continue;
    for (auto& in : meta->node->inputs) stack.push_back(std::move(in));
    meta->node->inputs.clear();
  }
}

}  // namespace autograd

bool grad_enabled() { return recording; }
NoGrad::NoGrad() : before_(recording) { recording = false; }
NoGrad::~NoGrad() { recording = before_; }

bool needs_grad(const std::vector<Variable>& inputs) {
  if (!recording) return false;
  for (const auto& v : inputs)
    if (v.requires_grad()) return true;
  return false;
}

Variable make_result(const char* name, Tensor data, const std::vector<Variable>& inputs,
                     autograd::Backward backward) {
  if (!needs_grad(inputs)) return Variable(std::move(data));
  Variable out(std::move(data), true);
  auto node = std::make_shared<autograd::Node>();
  node->name = name;
  node->backward = std::move(backward);
  node->inputs.reserve(inputs.size());
  for (const auto& v : inputs) node->inputs.push_back(v.meta());
  out.meta()->node = std::move(node);
  return out;
}

void backward(const std::vector<std::pair<Variable, Tensor>>& roots) {
  using autograd::Meta;
  using autograd::Node;
  const ProfileRange range("backward");
  const NoGrad guard;

  // How many edges lead to each variable from nodes that will be visited.
  std::unordered_map<Meta*, int> pending;
  std::vector<Meta*> stack;
  const auto reach = [&](Meta* m) {
    if (pending.try_emplace(m, 0).second && m->node) stack.push_back(m);
  };
  for (const auto& [v, g] : roots) {
    check(v.requires_grad(), "backward: the root does not require a gradient");
    check(v.shape() == g.shape(), "backward: root {} has a gradient {}", v.shape().str(),
          g.shape().str());
    reach(v.meta().get());
  }
  while (!stack.empty()) {
    Meta* m = stack.back();
    stack.pop_back();
    check(m->node->backward != nullptr, "backward: {} was consumed by an earlier backward",
          m->node->name);
    for (const auto& in : m->node->inputs)
      if (in && in->requires_grad) {
        reach(in.get());
        ++pending[in.get()];
      }
  }

  std::unordered_map<Meta*, Tensor> grads;
  std::vector<Meta*> ready;
  for (const auto& [v, g] : roots) accumulate(grads[v.meta().get()], g);
  for (const auto& [v, g] : roots) {
    Meta* m = v.meta().get();
    if (pending[m] == 0) {
      ready.push_back(m);
      pending[m] = -1;  // a root named twice is visited once
    }
  }
  while (!ready.empty()) {
    Meta* m = ready.back();
    ready.pop_back();
    Tensor grad = std::move(grads[m]);
    grads.erase(m);
    if (!m->node) {
      accumulate(m->grad, std::move(grad));
      GradientObserver::report(m);
      continue;
    }
    Node& node = *m->node;
    std::vector<bool> needs(node.inputs.size());
    for (size_t i = 0; i < needs.size(); ++i)
      needs[i] = node.inputs[i] && node.inputs[i]->requires_grad;
    std::vector<Tensor> input_grads = node.backward(grad, needs);
    check(input_grads.size() == needs.size(), "backward: {} returned {} gradients for {} inputs",
          node.name, input_grads.size(), needs.size());
    node.backward = nullptr;  // frees what it saved
    grad = Tensor();
    for (size_t i = 0; i < needs.size(); ++i) {
      if (!needs[i]) continue;
      check(input_grads[i].defined(), "backward: {} gave no gradient for input {}", node.name, i);
      Meta* in = node.inputs[i].get();
      accumulate(grads[in], std::move(input_grads[i]));
      if (--pending[in] == 0) ready.push_back(in);
    }
  }
}

void backward(const Variable& loss) {
  check(loss.data().numel() == 1, "backward: shape {} is not a scalar", loss.shape().str());
  backward({{loss, Tensor::full(loss.shape(), 1.0f, loss.data().device())}});
}

}  // namespace sextant
