// SPDX-License-Identifier: Apache-2.0
// The base class of all optimizers.
//
//   Sgd sgd(parameters, {.weight_decay = 5e-4, .nesterov = true});
//   backward(loss);
//   const StepValues v = schedule.at(iteration);
//   if (v.step) { sgd.step(v.lr, v.momentum); sgd.zero_grad(); }
//
// Parameters are f32 and changed in place, in the memory that the model's Variables share. The
// optimizer must therefore be created after the weights are loaded, or weights must be copied into
// that memory (Variable::set_data after construction would leave the optimizer with the old data).
//
// All parameters lie on one device, together with the optimizer's state. step() runs there without
// waiting for it.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "optim/ema.h"
#include "optim/param_groups.h"
#include "optim/update_entries.h"

namespace sextant::optim {

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // One update of every parameter that has a gradient; the others and their state do not change. lr
  // is per group: batch-norm weights, weights, biases. `momentum` is SGD's; Adam takes its betas
  // from its options. With `scaling` (grad_scaler.h) the gradients are divided by the loss scale,
  // nothing is updated when one of them is not finite, and the scale is adapted. Throws Error when
  // a gradient's shape or device is not its parameter's.
  void step(const std::array<double, kGroups>& lr, double momentum,
            const kernels::UpdateLossScale* scaling = nullptr);

  // From now on each step() also updates `ema`, in the same pass over the parameters. The average
  // must be of the same model and outlive the optimizer's last step. The values are those of a call
  // of ema.update() after each step.
  void average_into(ModelEma& ema);

  // Drops the gradients of all parameters, frozen ones included.
  void zero_grad() const;

  // Everything that a bit-exact continuation needs, as "<prefix><what>.<parameter name>"; tensors
  // share the optimizer's memory. Shapes are the parameters' own (NHWC), not PyTorch's.
  virtual NamedTensors state(const std::string& prefix) const = 0;
  // The reverse. Throws Error naming file and tensor when one is missing or has another shape.
  void load_state(const SafeTensors& file, const std::string& prefix);

  // The parameters that are updated; frozen ones are excluded.
  const std::vector<NamedParameter>& parameters() const { return parameters_; }

 protected:
  // Throws Error for an undefined or non-f32 parameter, a duplicate name or Variable, parameters on
  // two devices, or a multiplier of another dtype or shape than its parameter (it may lie on any
  // device).
  explicit Optimizer(const std::vector<NamedParameter>& parameters);

  // The rule, its options and lr; step() adds the list.
  virtual kernels::MultiTensorUpdate rule(const std::array<double, kGroups>& lr,
                                          double momentum) const = 0;
  // Entry i belongs to parameter i; constructors add their state to it.
  std::vector<kernels::UpdateTensor>& entries() { return entries_.tensors; }
  Device device() const { return entries_.device; }

  // One zero f32 tensor per parameter, on its device.
  std::vector<Tensor> zeros_like_parameters() const;
  void append_state(NamedTensors& out, const std::string& prefix,
                    const std::vector<Tensor>& tensors) const;

 private:
  std::vector<NamedParameter> parameters_;
  std::vector<Variable> all_;
  UpdateEntries entries_;  // of the parameters, then of everything else that ema_ averages
  ModelEma* ema_ = nullptr;
};

}  // namespace sextant::optim
