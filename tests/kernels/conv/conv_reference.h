// SPDX-License-Identifier: Apache-2.0
// Convolutions in f32 from their definition, in double.
#pragma once

#include <algorithm>
#include <vector>

#include "core/rng.h"
#include "kernels/conv.h"
#include "kernels/math/epilogue.h"

namespace sextant::test {

inline std::vector<float> random_floats(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = static_cast<float>(rng.uniform(-1.0, 1.0));
  return v;
}

// y(n, oy, ox, o) of a forward convolution without its epilogue.
inline std::vector<double> conv_reference(const kernels::ConvShape& s, const float* x,
                                          int64_t x_pitch, const float* w) {
  const int64_t inputs = s.ic / s.groups, outputs = s.oc / s.groups;
  std::vector<double> y(static_cast<size_t>(s.y_numel()), 0.0);
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oy = 0; oy < s.oh(); ++oy)
      for (int64_t ox = 0; ox < s.ow(); ++ox)
        for (int64_t o = 0; o < s.oc; ++o) {
          double sum = 0;
          for (int64_t ky = 0; ky < s.kh; ++ky)
            for (int64_t kx = 0; kx < s.kw; ++kx) {
              const int64_t iy = oy * s.stride - s.pad + ky, ix = ox * s.stride - s.pad + kx;
              if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
              const float* from = x + ((n * s.h + iy) * s.w + ix) * x_pitch + o / outputs * inputs;
              const float* weight = w + ((o * s.kh + ky) * s.kw + kx) * inputs;
              for (int64_t c = 0; c < inputs; ++c)
                sum += static_cast<double>(from[c]) * static_cast<double>(weight[c]);
            }
          y[static_cast<size_t>(((n * s.oh() + oy) * s.ow() + ox) * s.oc + o)] = sum;
        }
  return y;
}

// What the epilogue makes of one sum.
inline float finish_reference(const kernels::Epilogue& e, double sum, const float* residual,
                              float gain = 1.0f) {
  const kernels::EpilogueSteps steps(e, residual != nullptr);
  const float r = residual ? *residual : 0.0f;
  return steps.after(kernels::activate(e.activation, steps.before(static_cast<float>(sum), r)), r,
                     gain);
}

}  // namespace sextant::test
