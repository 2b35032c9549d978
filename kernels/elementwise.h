// Elementwise kernels. All pointers f32, contiguous, n elements; outputs may alias inputs.
#pragma once

#include <cstdint>

#include "core/stream.h"
#include "kernels/activation.h"

namespace sextant::kernels {

// y = act(x)
struct ActForward {
  const float* x = nullptr;
  float* y = nullptr;
  int64_t n = 0;
  Activation act = Activation::kIdentity;
};

// dx = dy * act'(x); x is the input of the forward pass. Overwrites dx.
struct ActBackward {
  const float* x = nullptr;
  const float* dy = nullptr;
  float* dx = nullptr;
  int64_t n = 0;
  Activation act = Activation::kIdentity;
};

// y = alpha * a + beta * b, where alpha and beta may each be multiplied by a value that lies in
// memory of the device, which the host need not know.
struct AddScaled {
  const float* a = nullptr;
  const float* b = nullptr;
  float* y = nullptr;
  int64_t n = 0;
  float alpha = 1.0f;
  float beta = 1.0f;
  const float* alpha_at = nullptr;  // or null: 1
  const float* beta_at = nullptr;
};

namespace cpu {
void act_forward(const ActForward& p);
void act_backward(const ActBackward& p);
void add_scaled(const AddScaled& p);
}  // namespace cpu

namespace cuda {
void act_forward(const ActForward& p, Stream stream);
void act_backward(const ActBackward& p, Stream stream);
void add_scaled(const AddScaled& p, Stream stream);
}  // namespace cuda

}  // namespace sextant::kernels
