// SPDX-License-Identifier: Apache-2.0
// The arithmetic of kernels/epilogue.h, one definition for the CPU and CUDA.
#pragma once

#include <cmath>

#include "kernels/epilogue.h"

namespace sextant::kernels {

// a * b, rounded: nvcc would fuse it with an addition that follows, and integers would differ.
SEXTANT_HD float rounded_product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

// What happens to one value before and after its activation.
struct EpilogueSteps {
  EpilogueSteps() = default;
  EpilogueSteps(const Epilogue& e, bool has_residual)
      : adds_before(has_residual && e.residual_before_activation),
        adds_after(has_residual && !e.residual_before_activation),
        activation_scale(e.activation_scale),
        residual_scale(e.residual_scale) {}

  SEXTANT_HD float before(float v, float residual) const {
    return adds_before ? std::fma(residual_scale, residual, v) : v;
  }
  SEXTANT_HD float after(float activated, float residual, float gain = 1.0f) const {
    const float v = rounded_product(activated, rounded_product(activation_scale, gain));
    return adds_after ? std::fma(residual_scale, residual, v) : v;
  }

  bool adds_before = false, adds_after = false;
  float activation_scale = 1.0f, residual_scale = 1.0f;
};

}  // namespace sextant::kernels
