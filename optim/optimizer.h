// What all optimizers share.
//
//   Sgd sgd(parameters, {.weight_decay = 5e-4, .nesterov = true});
//   backward(loss);
//   const StepValues v = schedule.at(iteration);
//   if (v.step) { sgd.step(v.lr, v.momentum); sgd.zero_grad(); }
//
// Parameters are f32 and changed in place, in the memory that the Variables of the model share. So
// the optimizer has to be made after the weights are loaded, or weights be loaded by copying into
// that memory (Variable::set_data after construction would leave the optimizer with the old data).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "kernels/optimizer.h"
#include "optim/param_groups.h"

namespace sextant::optim {

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // One update of every parameter that has a gradient; the others stay as they are, and so does
  // their state. lr is per group: batch-norm weights, weights, biases. `momentum` is SGD's; Adam
  // takes its betas from its options. Throws Error when a gradient's shape is not its parameter's.
  void step(const std::array<double, kGroups>& lr, double momentum);

  // Drops the gradients of all parameters, frozen ones included.
  void zero_grad() const;

  // Everything that a bit-exact continuation needs, as "<prefix><what>.<parameter name>"; tensors
  // share the optimizer's memory. Shapes are the parameters' own (NHWC world), not PyTorch's.
  virtual NamedTensors state(const std::string& prefix) const = 0;
  // The reverse. Throws Error naming file and tensor when one is missing or of another shape.
  void load_state(const SafeTensors& file, const std::string& prefix);

  // Those that are updated, without frozen ones.
  const std::vector<NamedParameter>& parameters() const { return parameters_; }

 protected:
  // Throws Error for an undefined or non-f32 parameter, a name twice, a Variable twice, or a
  // multiplier of another dtype or shape than its parameter.
  explicit Optimizer(const std::vector<NamedParameter>& parameters);

  // The rule, its options and lr; step() adds the list.
  virtual kernels::MultiTensorUpdate rule(const std::array<double, kGroups>& lr,
                                          double momentum) const = 0;
  // Entry i is parameter i's; constructors put their state in.
  std::vector<kernels::UpdateTensor>& entries() { return entries_; }

  // One zero f32 tensor per parameter.
  std::vector<Tensor> zeros_like_parameters() const;
  void append_state(NamedTensors& out, const std::string& prefix,
                    const std::vector<Tensor>& tensors) const;

 private:
  std::vector<NamedParameter> parameters_;
  std::vector<Variable> all_;
  std::vector<kernels::UpdateTensor> entries_;
  std::vector<kernels::UpdatePiece> pieces_;
};

}  // namespace sextant::optim
