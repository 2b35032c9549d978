// SPDX-License-Identifier: Apache-2.0
// Autograd: a dynamic graph of single-output nodes.
//
// A Variable is a Tensor plus, when a gradient is wanted, a record of where it came from. A
// differentiable function computes its result with a kernel and calls make_result() with the
// inputs and a backward function, which keeps only the tensors it needs. backward() walks the nodes
// in reverse order of use and drops what a node saved as soon as it has passed it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace sextant {

namespace autograd {
struct Node;

// What a Variable holds besides its data. Nodes refer to this, not to the data, so an activation
// that no backward function needs is freed at once.
struct Meta {
  bool requires_grad = false;
  Tensor grad;  // leaves only, after backward()
  std::shared_ptr<Node> node;
};

// Given the gradient of the result, returns the gradient of each input. needs[i] says whether input
// i needs one; an empty Tensor stands for none.
using Backward =
    std::function<std::vector<Tensor>(const Tensor& grad, const std::vector<bool>& needs)>;

struct Node {
  const char* name = "";
  std::vector<std::shared_ptr<Meta>> inputs;
  Backward backward;
  Node() = default;
  ~Node();  // iterative: a graph of any depth is freed without recursion
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
};
}  // namespace autograd

class Variable {
 public:
  Variable() = default;
  explicit Variable(Tensor data, bool requires_grad = false)
      : data_(std::move(data)), meta_(std::make_shared<autograd::Meta>()) {
    meta_->requires_grad = requires_grad;
  }

  bool defined() const { return data_.defined(); }
  const Tensor& data() const { return data_; }
  const Shape& shape() const { return data_.shape(); }
  int64_t dim(int i) const { return data_.dim(i); }
  float* f32() const { return data_.f32(); }

  bool requires_grad() const { return meta_ && meta_->requires_grad; }
  // Leaves only: whether gradients are wanted from now on.
  void set_requires_grad(bool on) const { meta_->requires_grad = on; }
  // The accumulated gradient of a leaf; empty before the first backward().
  const Tensor& grad() const { return meta_->grad; }
  void clear_grad() const { meta_->grad = Tensor(); }
  // Adds to the gradient, as backward() does; `grad` may become the gradient itself.
  void add_grad(Tensor grad) const;
  // Replaces the data (same shape): used when weights are loaded.
  void set_data(Tensor data) { data_ = std::move(data); }
  // The same data without history.
  Variable detach() const { return Variable(data_); }
  // Identity of this Variable (copies share it).
  const autograd::Meta* id() const { return meta_.get(); }
  const std::shared_ptr<autograd::Meta>& meta() const { return meta_; }

 private:
  Tensor data_;
  std::shared_ptr<autograd::Meta> meta_;
};

// Whether differentiable functions record nodes on this thread.
bool grad_enabled();
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};

// True when a function of these inputs must record a node (and save what backward needs).
bool needs_grad(const std::vector<Variable>& inputs);

// The result of a differentiable function. `backward` is dropped unless needs_grad(inputs).
Variable make_result(const char* name, Tensor data, const std::vector<Variable>& inputs,
                     autograd::Backward backward);

// Adds d(sum_i <roots[i], grads[i]>)/d(leaf) to the gradient of every leaf that requires one.
// The graph is consumed: a second backward() over the same nodes throws.
void backward(const std::vector<std::pair<Variable, Tensor>>& roots);
// For a scalar root.
void backward(const Variable& loss);

}  // namespace sextant
