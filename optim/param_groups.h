// Parameters as the optimizers see them: a name, a Variable and the group it belongs to.
//
// Groups are those of the official YOLOv6 (solver/build.py, build_optimizer): batch-norm weights
// (never decayed), other weights (decayed), biases (never decayed). BottleRep's alpha and the
// head's proj / proj_conv are in no group: they get gradients at most, and never move.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/safetensors.h"
#include "core/variable.h"

namespace sextant::optim {

// The values of the first three are the indices of the groups, in the official order.
enum class ParameterKind { kBnWeight = 0, kWeight = 1, kBias = 2, kFrozen = 3 };
inline constexpr int kGroups = 3;

struct NamedParameter {
  std::string name;
  Variable variable;
  ParameterKind kind = ParameterKind::kWeight;
  // RepOptimizer's gradient multipliers (rep_handler.h), F32 of the variable's shape; undefined: 1.
  Tensor multiplier = {};
};

// Name and tensor, the form in which SafeTensors holds them. Tensors share memory with whoever gave
// them.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// The kind that an official state-dict name implies:
//   "...bn.weight", "...rbr_identity.weight"               kBnWeight
//   "....bias"                                              kBias
//   "...alpha", "...proj", "...proj_conv.weight"            kFrozen
//   running_mean, running_var, num_batches_tracked          kFrozen (buffers)
//   everything else (conv.weight, scale_conv.weight, ...)   kWeight
// A learnable alpha (not an official recipe) has to be given its kind by hand.
ParameterKind parameter_kind(std::string_view name);

// {name, variable, parameter_kind(name)}.
NamedParameter named_parameter(std::string name, Variable variable);

// How many iterations are gathered before a step, outside warm-up: max(1, round(nominal / batch)),
// halves to even (core/engine.py). `batch` is the number of images per iteration.
int64_t accumulation(int64_t batch, int64_t nominal_batch = 64);

// weight_decay * batch * accumulation / nominal: the decay per step in proportion to the images in
// it (core/engine.py). Gradients of gathered iterations are summed, not averaged.
double scaled_weight_decay(double weight_decay, int64_t batch, int64_t nominal_batch = 64);

// Copies the tensor `name` of `file` into `target`. Throws Error naming file and tensor when it is
// absent or its dtype or shape is another.
void restore_tensor(const SafeTensors& file, const std::string& name, const Tensor& target);

}  // namespace sextant::optim
