// SPDX-License-Identifier: Apache-2.0
// Modules: named parameters, buffers and children, in the order of the official state dict.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/safetensors.h"
#include "core/variable.h"

namespace sextant {

// How a tensor's memory maps to PyTorch's in a file.
enum class Layout {
  kPlain,          // the same
  kConv,           // [O,kh,kw,I] here, [O,I,kh,kw] there
  kConvTranspose,  // [O,kh,kw,I] here, [I,O,kh,kw] there
};
Tensor to_file_layout(const Tensor& t, Layout layout);
Tensor from_file_layout(const Tensor& t, Layout layout);

struct ParameterRef {
  std::string name;
  Variable variable;
  Layout layout;
};
struct BufferRef {
  std::string name;
  Tensor tensor;
};
// One entry of a state dict: a parameter or a buffer.
struct StateRef {
  std::string name;
  Tensor tensor;  // shares the module's memory
  Layout layout;
};

class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Official names: "backbone.stem.rbr_dense.conv.weight".
  std::vector<ParameterRef> parameters() const;
  std::vector<BufferRef> buffers() const;
  // Parameters and buffers together, in PyTorch's order.
  std::vector<StateRef> state() const;

  // Training or evaluation mode, for this module and all below it.
  void train(bool on);
  bool training() const { return training_; }

  // No gradients, and evaluation mode whatever train() says, for this module and all below it.
  void freeze();
  // Moves parameters and buffers to `device`. Variables keep their identity; gradients are dropped.
  // The batch counters (I64) stay on the host, which does the counting. To be called before an
  // optimizer or a moving average is created from the parameters, because those hold pointers.
  void to(Device device) const;
  // The module at `path` ("backbone.ERBlock_2"; "" is this one); null when there is none.
  Module* find(std::string_view path);

  // Adds the state dict on the host in file layout, each name prefixed with `prefix`.
  void save_state(SafeTensors& file, const std::string& prefix = "") const;
  // Throws Error naming file and tensor when one is missing, has another shape or has values that no
  // model has (core/values.h), or when the file has one (under `prefix`) that the module does not
  // have.
  void load_state(const SafeTensors& file, const std::string& prefix = "");

 protected:
  Variable register_parameter(const std::string& name, Tensor init, Layout layout = Layout::kPlain);
  Tensor register_buffer(const std::string& name, Tensor init);
  // The module's name in its parent, for a ProfileRange around forward(): ranges nest like modules.
  const char* own_name() const { return own_name_.c_str(); }
  template <class M>
  std::shared_ptr<M> register_module(const std::string& name, std::shared_ptr<M> module) {
    children_.emplace_back(name, module);
    children_.back().second->own_name_ = name;
    return module;
  }

 private:
  void collect(const std::string& prefix, std::vector<ParameterRef>* parameters,
               std::vector<BufferRef>* buffers, std::vector<StateRef>* state) const;
  std::vector<ParameterRef> parameters_;
  std::vector<BufferRef> buffers_;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
  std::string own_name_;
  bool training_ = true;
  bool frozen_ = false;
};

}  // namespace sextant
