// SPDX-License-Identifier: Apache-2.0
// Mixed precision. While an Autocast with a 16-bit type is alive, convolutions on a device cast f32
// inputs to that type. All functions that follow use it too, because a result has its input's type:
//
//   const Autocast autocast(DType::kF16);
//   const HeadOutput maps = model.forward(images);   // f32 maps
//
// These stay f32: the weights (cast once per scope) and their gradients, parameters and statistics
// of batch-norm, all sums, and the maps that a head passes to its loss. On the CPU nothing changes.
// Small gradients underflow in f16 (see optim/grad_scaler.h); bf16 has the exponent range of f32.
#pragma once

#include <unordered_map>

#include "core/variable.h"

namespace sextant {

// Applies to this thread. One scope covers one forward pass: weights must not change while it is
// alive. Backward may run outside it.
class Autocast {
 public:
  // Throws Error unless `type` is kF32, kF16 or kBF16. kF32 disables an outer scope.
  explicit Autocast(DType type);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  friend Variable as_operand(const Variable& x);
  friend Tensor weight_as(const Variable& weight, DType type);
  DType type_;
  Autocast* outer_;
  // Holding the Variables keeps their identities from being reused.
  std::unordered_map<const void*, std::pair<Variable, Tensor>> weights_;
};

// x converted to `type`, differentiable; x itself if it has that type. One of the types must be
// F32.
Variable cast(const Variable& x, DType type);

// For functions that multiply: x in the scope's type, and a weight in the type of its operand.
Variable as_operand(const Variable& x);
Tensor weight_as(const Variable& weight, DType type);

}  // namespace sextant
