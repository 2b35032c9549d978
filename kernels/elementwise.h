// SPDX-License-Identifier: Apache-2.0
// Elementwise kernels. All tensors of type `dtype`, contiguous, n elements; outputs may alias
// inputs. CPU: f32 only. CUDA: F32, F16, BF16; arithmetic is f32.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/math/activation.h"

namespace sextant::kernels {

// y = act(x)
struct ActForward {
  const void* x = nullptr;
  void* y = nullptr;
  int64_t n = 0;
  Activation activation = Activation::kIdentity;
  DType dtype = DType::kF32;
};

// dx = dy * act'(x); x is the input of the forward pass. Overwrites dx.
struct ActBackward {
  const void* x = nullptr;
  const void* dy = nullptr;
  void* dx = nullptr;
  int64_t n = 0;
  Activation activation = Activation::kIdentity;
  DType dtype = DType::kF32;
};

// y = alpha * a + beta * b, where alpha and beta may each be multiplied by a value that lies in
// memory of the device, which the host need not know.
struct AddScaled {
  const void* a = nullptr;
  const void* b = nullptr;
  void* y = nullptr;
  int64_t n = 0;
  float alpha = 1.0f;
  float beta = 1.0f;
  DType dtype = DType::kF32;
  const float* alpha_at = nullptr;  // or null: 1
  const float* beta_at = nullptr;
};

}  // namespace sextant::kernels
