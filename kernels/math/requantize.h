// SPDX-License-Identifier: Apache-2.0
// The arithmetic of kernels/requantize.h, one definition for the CPU and CUDA.
#pragma once

#include <cmath>

#include "kernels/math/epilogue.h"
#include "kernels/requantize.h"

namespace sextant::kernels::requantizing {

SEXTANT_HD float clamp(float v, float low, float high) {
  v = v < low ? low : v;  // in a form that is one instruction each
  return v > high ? high : v;
}

// x in steps: both forms, one of which is a factor of 1.
struct Steps {
  SEXTANT_HD Steps(bool by_inverse, float scale)
      : factor(by_inverse ? 1.0f / scale : 1.0f), divisor(by_inverse ? 1.0f : scale) {}
  SEXTANT_HD float operator()(float x) const { return x * factor / divisor; }
  float factor, divisor;
};

// What a level's gradient is times, towards the step: LSQ's.
SEXTANT_HD float step_slope(float steps, float level, float low, float high) {
  return level < low ? low : (level > high ? high : level - steps);
}

// Bias and factor of channel o. The destination's scale goes into the factor where the activation
// lets it through.
SEXTANT_HD void fold_channel(const ConvScales& s, int64_t o, float* bias, float* factor) {
  const double product = static_cast<double>(s.source) * static_cast<double>(s.weight[o]);
  const double b = s.bias != nullptr ? static_cast<double>(s.bias[o]) : 0.0;
  bias[o] = static_cast<float>(b / product);
  factor[o] = static_cast<float>(traits_of(s.epilogue.activation).homogeneous
                                     ? product / static_cast<double>(s.destination)
                                     : product);
}

// One value, before rounding; `pre` is what the activation sees.
template <Activation A>
struct Requantized {
  Requantized(const Epilogue& e, bool has_residual) : steps(e, has_residual) {}
  explicit Requantized(const Requantize& f) : Requantized(f.epilogue, f.residual != nullptr) {}
  SEXTANT_HD float pre(float sum, float bias, float factor, float residual) const {
    return steps.before(rounded_product(sum + bias, factor), residual);
  }
  SEXTANT_HD float post(float pre_value, float residual, float gain) const {
    return steps.after(activate<A>(pre_value), residual, gain);
  }
  EpilogueSteps steps;
};

}  // namespace sextant::kernels::requantizing
