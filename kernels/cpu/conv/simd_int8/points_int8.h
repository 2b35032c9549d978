// SPDX-License-Identifier: Apache-2.0
// F(m x m, 3x3) in integers, along one axis (kernels/cpu/conv/simd/points.h), and why it is exact.
//
// With points 0, 1, -1 (m = 2) and also 2, -2 (m = 4) all coefficients are integers once the fractions
// of G are multiplied out. Then each result is the true sum times kScale[j]; along both axes, times 4
// or times 9 * 2^k, k up to 6. Everything is computed modulo 2^32, where dividing by 9 is multiplying
// by its inverse, and the shift by k is exact while the sum times 2^k fits 32 bits
// (can_winograd_int8()).
//
// Transformed inputs and weights fit 16 bits. Inputs are 0..255 or -128..127: m = 4 multiplies them by
// coefficients of which the positive add up to 8 at most and the negative to 5 or the other way round,
// along both axes by at most 8 * 8 + 2 * 2 = 68 to one side: 17,340; signed ones by 10 * 10: 12,800.
// Weights become at most 7 * 7 * 128 = 6,272.
#pragma once

#include "kernels/cpu/conv/simd_int8/dot.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

struct IntF2 {
  static constexpr int kOut = 2, kIn = 4;
  static constexpr uint32_t kInverse = 1;      // of the odd part of the scale of both axes
  static constexpr int kShift[kOut] = {1, 1};  // each axis's power of two

  SEXTANT_SIMD_INLINE static void input(const VecS* d, VecS* t) {
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }
  SEXTANT_SIMD_INLINE static void output(const VecU* m, VecU* y) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  }
  SEXTANT_SIMD_INLINE static void weight(const VecS* g, VecS* u) {
    u[0] = 2 * g[0];
    u[1] = g[0] + g[1] + g[2];
    u[2] = g[0] - g[1] + g[2];
    u[3] = 2 * g[2];
  }
};

// m(x) = x (x^2 - 1) (x^2 - 4) = x^5 - 5 x^3 + 4 x. The scale is 24, 12, 6, 6.
struct IntF4 {
  static constexpr int kOut = 4, kIn = 6;
  static constexpr uint32_t kInverse = 954437177;  // times 9 is 1 modulo 2^32
  static constexpr int kShift[kOut] = {3, 2, 1, 1};

  SEXTANT_SIMD_INLINE static void input(const VecS* d, VecS* t) {
    const VecS even1 = d[4] - 4 * d[2], odd1 = d[3] - 4 * d[1];
    const VecS even2 = d[4] - d[2], odd2 = 2 * (d[3] - d[1]);
    t[0] = 4 * d[0] - 5 * d[2] + d[4];
    t[1] = even1 + odd1;
    t[2] = even1 - odd1;
    t[3] = even2 + odd2;
    t[4] = even2 - odd2;
    t[5] = 4 * d[1] - 5 * d[3] + d[5];
  }
  SEXTANT_SIMD_INLINE static void output(const VecU* m, VecU* y) {
    const VecU sum1 = m[1] + m[2], difference1 = m[1] - m[2];
    const VecU sum2 = m[3] + m[4], difference2 = m[3] - m[4];
    y[0] = m[0] - 4 * sum1 + sum2;
    y[1] = difference2 - 2 * difference1;
    y[2] = sum2 - sum1;
    y[3] = m[5] + 2 * difference2 - difference1;
  }
  SEXTANT_SIMD_INLINE static void weight(const VecS* g, VecS* u) {
    u[0] = 6 * g[0];
    u[1] = g[0] + g[1] + g[2];
    u[2] = g[0] - g[1] + g[2];
    u[3] = g[0] + 2 * g[1] + 4 * g[2];
    u[4] = g[0] - 2 * g[1] + 4 * g[2];
    u[5] = 6 * g[2];
  }
};

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
