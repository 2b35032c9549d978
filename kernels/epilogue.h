// SPDX-License-Identifier: Apache-2.0
// The epilogue of a convolution: the activation and residual applied to its sums before they are
// stored.
//
//   y = activation(v) * activation_scale + residual_scale * r
//
// or, with residual_before_activation,
//
//   y = activation(v + residual_scale * r) * activation_scale
//
// A kernel may also take gains, an operand [channels] beside the epilogue: the activation's result is
// then multiplied by activation_scale * gain[c], a product that is rounded first.
//
// v is the sum with its bias, in units that each kernel documents. r is the residual, an operand
// beside the epilogue of y's shape and type; without one its term is absent. In f32: each operation
// rounds, except that the scaled residual is added by one fused multiply-add.
//
// kernels/math/epilogue.h holds the arithmetic.
#pragma once

#include "kernels/math/activation.h"

namespace sextant::kernels {

struct Epilogue {
  Activation activation = Activation::kIdentity;
  float activation_scale = 1.0f;  // int8 only; f32 and 16-bit kernels need 1
  float residual_scale = 1.0f;
  bool residual_before_activation = false;

  bool operator==(const Epilogue&) const = default;
};

}  // namespace sextant::kernels
