// SPDX-License-Identifier: Apache-2.0
// Parameters as the optimizers see them: a name, a Variable and the group it belongs to.
//
// The groups are those of the official YOLOv6 (solver/build.py, build_optimizer): batch-norm
// weights (never decayed), other weights (decayed), biases (never decayed). BottleRep's alpha and
// the head's proj / proj_conv belong to no group: they may get gradients, but are never updated.
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

// Name and tensor, the form in which SafeTensors holds them. The tensors share memory with their
// source.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// The kind that an official state-dict name implies:
//   "...bn.weight", "...rbr_identity.weight"               kBnWeight
//   "....bias"                                              kBias
//   "...alpha", "...proj", "...proj_conv.weight"            kFrozen
//   running_mean, running_var, num_batches_tracked          kFrozen (buffers)
//   everything else (conv.weight, scale_conv.weight, ...)   kWeight
// A learnable alpha (not an official recipe) must be given its kind explicitly.
ParameterKind parameter_kind(std::string_view name);

// {name, variable, parameter_kind(name)}.
NamedParameter named_parameter(std::string name, Variable variable);

// The number of iterations accumulated per step, outside warm-up: max(1, round(nominal / batch)),
// rounding halves to even (core/engine.py). `batch` is the number of images per iteration.
int64_t accumulation(int64_t batch, int64_t nominal_batch = 64);

// weight_decay * batch * accumulation / nominal: the decay per step in proportion to the images in
// it (core/engine.py). Gradients of accumulated iterations are summed, not averaged.
double scaled_weight_decay(double weight_decay, int64_t batch, int64_t nominal_batch = 64);

// Copies the tensor `name` of `file` into `target`. Throws Error naming file and tensor when it is
// missing or its dtype or shape differs.
void restore_tensor(const SafeTensors& file, const std::string& name, const Tensor& target);

}  // namespace sextant::optim
