// Mixed precision. While an Autocast of a 16-bit type lives, convolutions on a device take f32
// inputs in that type, and so do all functions behind them, since a result has its input's type:
//
//   const Autocast autocast(DType::kF16);
//   const HeadOutput maps = model.forward(images);   // f32 maps
//
// What stays f32: the weights, which are cast once for the scope, and their gradients; parameters
// and statistics of batch-norm; all sums; what a head gives to its loss. On the CPU nothing
// changes. Small gradients vanish in f16: optim/grad_scaler.h. bf16 has the exponents of f32.
#pragma once

#include <unordered_map>

#include "core/variable.h"

namespace sextant {

// Of this thread. One scope is one forward pass: weights must not change while it lives. Backward
// may run outside it.
class Autocast {
 public:
  // kF32, kF16 or kBF16, else an Error. kF32 switches an outer scope off.
  explicit Autocast(DType type);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  friend Variable as_operand(const Variable& x);
  friend Tensor weight_as(const Variable& weight, DType type);
  DType type_;
  Autocast* outer_;
  // The Variables keep their identities taken.
  std::unordered_map<const void*, std::pair<Variable, Tensor>> weights_;
};

// x as `type`, differentiable; x itself when it is of it. One of the two types is F32.
Variable cast(const Variable& x, DType type);

// For functions that multiply: x in the scope's type, and a weight in the type of its operand.
Variable as_operand(const Variable& x);
Tensor weight_as(const Variable& weight, DType type);

}  // namespace sextant
