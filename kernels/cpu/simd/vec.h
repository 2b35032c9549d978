// SPDX-License-Identifier: Apache-2.0
// As many floats as a register holds, through the compiler's vector extension.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/simd/target.h"
#include "kernels/math/activation.h"

#define SEXTANT_SIMD_INLINE [[gnu::always_inline]] inline

namespace sextant::kernels::cpu::SEXTANT_SIMD {

#if defined(SEXTANT_SIMD_AVX512) || defined(SEXTANT_SIMD_AVX512_VNNI)
inline constexpr int kLanes = 16;
#elif defined(SEXTANT_SIMD_AVX2) || defined(SEXTANT_SIMD_AVX2_VNNI)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

using Vec = float __attribute__((vector_size(4 * kLanes)));
using VecI = int32_t __attribute__((vector_size(4 * kLanes)));

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD

namespace sextant::kernels {

// The arithmetic of fast_exp(float), on each lane.
template <>
SEXTANT_HD cpu::SEXTANT_SIMD::Vec fast_exp(cpu::SEXTANT_SIMD::Vec x) {
  using cpu::SEXTANT_SIMD::Vec, cpu::SEXTANT_SIMD::VecI;
  const Vec low = Vec{} - 87.0f, high = Vec{} + 88.0f;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Vec t = x * 1.44269504088896341f + 0.5f;
  Vec n = __builtin_convertvector(__builtin_convertvector(t, VecI), Vec);
  n = n > t ? n - 1.0f : n;
  Vec r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vec p = Vec{} + 1.9875691500e-4f;
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

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

SEXTANT_SIMD_INLINE Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
SEXTANT_SIMD_INLINE void store(float* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }
// The first `count` values, the rest zeros; or all of a vector.
SEXTANT_SIMD_INLINE Vec load_part(const float* p, int64_t count) {
  if (count >= kLanes) return load(p);
  Vec v = {};
  for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
}
SEXTANT_SIMD_INLINE void store_part(float* p, Vec v, int64_t count) {
  if (count >= kLanes) return store(p, v);
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
}

// x - 0 is x for every x, x + 0 is not: one instruction.
SEXTANT_SIMD_INLINE Vec splat(float x) { return x - Vec{}; }

// kernels::activate() of each lane. ReLU, the most frequent, is not left to code that is compiled for
// the base set and halves the vectors.
template <Activation A>
SEXTANT_SIMD_INLINE Vec activate(Vec x) {
  if constexpr (A == Activation::kReLU)
    return x > 0.0f ? x : Vec{};
  else
    return kernels::activate<A>(x);
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
