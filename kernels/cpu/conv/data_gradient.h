// SPDX-License-Identifier: Apache-2.0
// The data gradient in f32: of a convolution, and, since it is the same sum, a transposed convolution.
#pragma once

#include "kernels/cpu/conv/f32.h"

namespace sextant::kernels::cpu {

// dx = (or +=) the gradient of a convolution with respect to x.
struct F32DataGradient {
  Window window;  // of the convolution; for a depthwise one its groups as channels
  bool depthwise = false;
  WeightView w;  // its weights
  Pixels<const float> dy;
  Pixels<float> dx;
  const float* bias = nullptr;  // [ic], added; or null
  bool accumulate = false;      // then without bias
};
void data_gradient(const F32DataGradient& p);

}  // namespace sextant::kernels::cpu
