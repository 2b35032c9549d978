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
//
// All parameters lie on one device, the optimizer's state with them, and step() runs there without
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

  // One update of every parameter that has a gradient; the others stay as they are, and so does
  // their state. lr is per group: batch-norm weights, weights, biases. `momentum` is SGD's; Adam
  // takes its betas from its options. With `scaling` (grad_scaler.h) the gradients are divided by
  // the loss scale, nothing is updated when one of them is not finite, and the scale is adapted.
  // Throws Error when a gradient's shape or device is not its parameter's.
  void step(const std::array<double, kGroups>& lr, double momentum,
            const kernels::UpdateLossScale* scaling = nullptr);

  // From here on each step() does ema.update() too, in the same pass over the parameters. The
  // average has to be of the same model and to outlive the optimizer's last step. The values are
  // those of a call of update() after each step.
  void average_into(ModelEma& ema);

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
  // Throws Error for an undefined or non-f32 parameter, a name twice, a Variable twice, parameters
  // on two devices, or a multiplier of another dtype or shape than its parameter (it may lie on any
  // device).
  explicit Optimizer(const std::vector<NamedParameter>& parameters);

  // The rule, its options and lr; step() adds the list.
  virtual kernels::MultiTensorUpdate rule(const std::array<double, kGroups>& lr,
                                          double momentum) const = 0;
  // Entry i is parameter i's; constructors put their state in.
  std::vector<kernels::UpdateTensor>& entries() { return entries_.tensors; }
  Device device() const { return entries_.device; }

  // One zero f32 tensor per parameter, on its device.
  std::vector<Tensor> zeros_like_parameters() const;
  void append_state(NamedTensors& out, const std::string& prefix,
                    const std::vector<Tensor>& tensors) const;

 private:
  std::vector<NamedParameter> parameters_;
  std::vector<Variable> all_;
  UpdateEntries entries_;  // of the parameters; then what else ema_ averages
  ModelEma* ema_ = nullptr;
};

}  // namespace sextant::optim
