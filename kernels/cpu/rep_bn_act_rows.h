// SPDX-License-Identifier: Apache-2.0
// The loops over rows of a batch-norm with branches (kernels/rep_bn_act.h), once for each
// instruction set: kernels/cpu/simd/rep_bn_act.cpp.
#pragma once

#include <array>

#include "kernels/cpu/simd/each_isa.h"
#include "kernels/rep_bn_act.h"

namespace sextant::kernels::cpu {

struct Rows {
  int64_t begin, end;
};

// pre = sum_b scale_b * (x_b - mean_b) + shift. The means are subtracted first: folded into the
// shift they would cancel in f32 when a mean is much larger than its deviation.
struct FoldedNorms {
  std::array<const float*, kMaxBranches> scale, mean;
  const float* shift;
};

// dx_b = scale_b * (g - mean(g) - (x_b - mean_b) * inv_std_b^2 * mean(g (x_b - mean_b)))
//      = scale_b * g + slope_b * (x_b - mean_b) + offset_b
struct InputSlopes {
  std::array<const float*, kMaxBranches> slope, offset;
};

// bn_moments: sums [branches, 2, channels] = sum of x_b, sum of x_b^2 over the rows.
// bn_apply: y.
// bn_gradient_sums: sums [1 + branches, channels] = sum of g, sums of g * (x_b - mean_b), with
// g = dy * act'(pre).
// bn_input_gradients: the dx_b that are wanted.
#define SEXTANT_DECLARE(isa)                                                            \
  namespace isa {                                                                       \
  void bn_moments(const RepBnActForward& p, Rows rows, double* sums);                   \
  void bn_apply(const RepBnActForward& p, const FoldedNorms& norms, Rows rows);         \
  void bn_gradient_sums(const RepBnActBackward& p, const FoldedNorms& norms, Rows rows, \
                        double* sums);                                                  \
  void bn_input_gradients(const RepBnActBackward& p, const FoldedNorms& norms,          \
                          const InputSlopes& in, Rows rows);                            \
  }
SEXTANT_EACH_F32_ISA(SEXTANT_DECLARE)
#undef SEXTANT_DECLARE

}  // namespace sextant::kernels::cpu
