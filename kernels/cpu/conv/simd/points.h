// SPDX-License-Identifier: Apache-2.0
// The transforms of F(m x m, 3x3) along one axis, for sums y[j] = sum of d[j + k] g[k] over k < 3,
// j < m: y = A^T ((G g) . (B^T d)) (Toom-Cook; Lavin and Gray 2016, "Fast Algorithms for
// Convolutional Neural Networks"). With points p and infinity, m(x) the product of x - p, row p of
// B^T holds the coefficients of m(x) / (x - p), row p of G is (1, p, p^2) over that polynomial's value
// at p, and row j of A^T holds p^j.
#pragma once

#include "kernels/cpu/simd/vec.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

// Points 0, 1, -1.
struct F2 {
  static constexpr int kOut = 2, kIn = 4;

  SEXTANT_SIMD_INLINE static void input(const Vec* d, Vec* t) {
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }
  SEXTANT_SIMD_INLINE static void output(const Vec* m, Vec* y) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  }
  SEXTANT_SIMD_INLINE static void weight(const Vec* g, Vec* u) {
    const Vec even = 0.5f * (g[0] + g[2]);
    u[0] = g[0];
    u[1] = even + 0.5f * g[1];
    u[2] = even - 0.5f * g[1];
    u[3] = g[2];
  }
  // The transposed transforms of output and weight, for the gradient with respect to the weights.
  SEXTANT_SIMD_INLINE static void output_gradient(const Vec* dy, Vec* m) {
    m[0] = dy[0];
    m[1] = dy[0] + dy[1];
    m[2] = dy[0] - dy[1];
    m[3] = dy[1];
  }
  SEXTANT_SIMD_INLINE static void weight_gradient(const Vec* u, Vec* dg) {
    const Vec sum = 0.5f * (u[1] + u[2]);
    dg[0] = u[0] + sum;
    dg[1] = 0.5f * (u[1] - u[2]);
    dg[2] = sum + u[3];
  }
};

// Points 0, +-a, +-b with a = sqrt(1/2), b = sqrt(2): a quarter of the error of 0, +-1, +-2.
struct F4 {
  static constexpr int kOut = 4, kIn = 6;
  static constexpr float kA = 0.70710678118654752f, kB = 1.4142135623730950f;

  // m(x) = x (x^2 - 1/2) (x^2 - 2) = x^5 - 5/2 x^3 + x
  SEXTANT_SIMD_INLINE static void input(const Vec* d, Vec* t) {
    const Vec even1 = d[4] - 2.0f * d[2], odd1 = d[3] - 2.0f * d[1];
    const Vec even2 = d[4] - 0.5f * d[2], odd2 = d[3] - 0.5f * d[1];
    t[0] = (d[0] + d[4]) - 2.5f * d[2];
    t[1] = even1 + kA * odd1;
    t[2] = even1 - kA * odd1;
    t[3] = even2 + kB * odd2;
    t[4] = even2 - kB * odd2;
    t[5] = (d[1] + d[5]) - 2.5f * d[3];
  }
  SEXTANT_SIMD_INLINE static void output(const Vec* m, Vec* y) {
    const Vec sum1 = m[1] + m[2], difference1 = m[1] - m[2];
    const Vec sum2 = m[3] + m[4], difference2 = m[3] - m[4];
    y[0] = m[0] + (sum1 + sum2);
    y[1] = kA * (difference1 + 2.0f * difference2);
    y[2] = 0.5f * sum1 + 2.0f * sum2;
    y[3] = m[5] + kA * (0.5f * difference1 + 4.0f * difference2);
  }
  SEXTANT_SIMD_INLINE static void weight(const Vec* g, Vec* u) {
    const Vec even1 = g[0] + 0.5f * g[2], odd1 = kA * g[1];
    const Vec even2 = g[0] + 2.0f * g[2], odd2 = kB * g[1];
    u[0] = g[0];
    u[1] = (-2.0f / 3.0f) * (even1 + odd1);
    u[2] = (-2.0f / 3.0f) * (even1 - odd1);
    u[3] = (1.0f / 6.0f) * (even2 + odd2);
    u[4] = (1.0f / 6.0f) * (even2 - odd2);
    u[5] = g[2];
  }
  SEXTANT_SIMD_INLINE static void output_gradient(const Vec* dy, Vec* m) {
    const Vec even1 = dy[0] + 0.5f * dy[2], odd1 = kA * (dy[1] + 0.5f * dy[3]);
    const Vec even2 = dy[0] + 2.0f * dy[2], odd2 = kB * (dy[1] + 2.0f * dy[3]);
    m[0] = dy[0];
    m[1] = even1 + odd1;
    m[2] = even1 - odd1;
    m[3] = even2 + odd2;
    m[4] = even2 - odd2;
    m[5] = dy[3];
  }
  SEXTANT_SIMD_INLINE static void weight_gradient(const Vec* u, Vec* dg) {
    const Vec sum1 = (-1.0f / 3.0f) * (u[1] + u[2]), sum2 = (1.0f / 6.0f) * (u[3] + u[4]);
    dg[0] = u[0] + 2.0f * sum1 + sum2;
    dg[1] = (-2.0f / 3.0f * kA) * (u[1] - u[2]) + (1.0f / 6.0f * kB) * (u[3] - u[4]);
    dg[2] = sum1 + 2.0f * sum2 + u[5];
  }
};

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
