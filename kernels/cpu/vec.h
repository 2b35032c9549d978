// SPDX-License-Identifier: Apache-2.0
// Sixteen floats at a time, through the compiler's vector extension: one 512-bit register where the
// machine has them, two or four smaller ones elsewhere.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/namespace.h"
#include "kernels/math/activation.h"

namespace sextant::kernels::SEXTANT_CPU {

using Vec = float __attribute__((vector_size(64)));
using VecI = int32_t __attribute__((vector_size(64)));
inline constexpr int64_t kVec = 16;

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }
inline Vec splat(float x) { return Vec{} + x; }

}  // namespace sextant::kernels::SEXTANT_CPU

namespace sextant::kernels {

// The arithmetic of fast_exp(float), on each element.
template <>
SEXTANT_HD SEXTANT_CPU::Vec fast_exp(SEXTANT_CPU::Vec x) {
  using SEXTANT_CPU::splat, SEXTANT_CPU::Vec, SEXTANT_CPU::VecI;
  x = x < -87.0f ? splat(-87.0f) : x;
  x = x > 88.0f ? splat(88.0f) : x;
  const Vec t = x * 1.44269504088896341f + 0.5f;
  Vec n = __builtin_convertvector(__builtin_convertvector(t, VecI), Vec);
  n = n > t ? n - 1.0f : n;
  Vec r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const VecI bits = (__builtin_convertvector(n, VecI) + 127) << 23;
  Vec scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return p * scale;
}

}  // namespace sextant::kernels
