// SPDX-License-Identifier: Apache-2.0
// The convolutions in f32 as the instruction sets offer them: weights packed once, run many times.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cpu/conv/window.h"
#include "kernels/epilogue.h"

namespace sextant::kernels::cpu {

// Weights as they lie, in elements.
struct WeightView {
  const float* data = nullptr;
  int64_t o = 0, ky = 0, kx = 0, i = 0;

  float at(int64_t out, int64_t y, int64_t x, int64_t in) const {
    return data[out * o + y * ky + x * kx + in * i];
  }
  // Those of output channels from `out` on.
  WeightView from(int64_t out) const { return {data + out * o, o, ky, kx, i}; }
};

// [oc,kh,kw,ic / groups]
inline WeightView dense_weights(const ConvShape& s, const float* w) {
  const int64_t inputs = s.ic / s.groups;
  return {w, s.kh * s.kw * inputs, s.kw * inputs, inputs, 1};
}

// Likewise, to be written.
struct WeightTarget {
  float* data = nullptr;
  int64_t o = 0, ky = 0, kx = 0, i = 0;
};

// y = the epilogue of sum + bias (kernels/epilogue.h)
struct F32Operands {
  Pixels<const float> x;
  Pixels<float> y;
  const float* bias = nullptr;   // [oc] or null
  const float* gain = nullptr;   // [oc] or null
  Pixels<const float> residual;  // like y, may be y; or null
  Epilogue epilogue{};
};

class F32Conv {
 public:
  F32Conv() = default;
  virtual ~F32Conv() = default;
  F32Conv(const F32Conv&) = delete;
  F32Conv& operator=(const F32Conv&) = delete;
  // Callable from several threads.
  virtual void run(const F32Operands& p) const = 0;
  virtual int64_t weight_bytes() const = 0;
};

// dw = the gradient with respect to the weights.
struct F32Gradient {
  Pixels<const float> x, dy;
  WeightTarget dw;
};

// On the instruction set in use (isa()).
std::unique_ptr<F32Conv> make_direct(const Window& window, const WeightView& w);
// By F(m x m, 3x3), m 2 or 4: for 3x3 kernels of stride 1 where can_winograd().
std::unique_ptr<F32Conv> make_winograd(const Window& window, const WeightView& w, int m);
// Channel c of y from channel c of x alone; w(c, ky, kx, 0), window.ic = window.oc.
std::unique_ptr<F32Conv> make_depthwise(const Window& window, const WeightView& w);
// The fastest of these but depthwise for kAuto, or the one asked for.
ConvAlgorithm fastest(const Window& window);
std::unique_ptr<F32Conv> make_conv(const Window& window, const WeightView& w, ConvAlgorithm a);

void weight_gradient(const Window& window, const F32Gradient& p);
// By F(4x4, 3x3), where can_winograd().
void winograd_weight_gradient(const Window& window, const F32Gradient& p);
void depthwise_weight_gradient(const Window& window, const F32Gradient& p);

}  // namespace sextant::kernels::cpu
