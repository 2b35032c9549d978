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

template <>
SEXTANT_HD SEXTANT_CPU::Vec rounded_down(SEXTANT_CPU::Vec x) {
  using SEXTANT_CPU::Vec, SEXTANT_CPU::VecI;
  const Vec n = __builtin_convertvector(__builtin_convertvector(x, VecI), Vec);
  return n > x ? n - 1.0f : n;
}
template <>
SEXTANT_HD SEXTANT_CPU::Vec power_of_two(SEXTANT_CPU::Vec n) {
  return std::bit_cast<SEXTANT_CPU::Vec>((__builtin_convertvector(n, SEXTANT_CPU::VecI) + 127)
                                         << 23);
}

}  // namespace sextant::kernels
