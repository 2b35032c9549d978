// SPDX-License-Identifier: Apache-2.0
// As many floats as a register holds, through the compiler's vector extension.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/cpu/simd/target.h"
#include "kernels/math/activation.h"

#define SEXTANT_SIMD_INLINE [[gnu::always_inline]] inline

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

#if defined(SEXTANT_SIMD_512)
inline constexpr int kLanes = 16;
#elif defined(SEXTANT_SIMD_256)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

using Vec = float __attribute__((vector_size(4 * kLanes)));
using VecI = int32_t __attribute__((vector_size(4 * kLanes)));

#include "kernels/math/activation.inc"

template <>
SEXTANT_SIMD_INLINE Vec rounded_down(Vec x) {
#if defined(SEXTANT_SIMD_512)
  return _mm512_floor_ps(x);
#elif defined(SEXTANT_SIMD_256)
  return _mm256_floor_ps(x);
#else
  const Vec n = __builtin_convertvector(__builtin_convertvector(x, VecI), Vec);
  return n > x ? n - 1.0f : n;
#endif
}
template <>
SEXTANT_SIMD_INLINE Vec power_of_two(Vec n) {
  return std::bit_cast<Vec>((__builtin_convertvector(n, VecI) + 127) << 23);
}

SEXTANT_SIMD_INLINE Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
SEXTANT_SIMD_INLINE void store(float* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }
// The first `count` values, the rest zeros; or all of a vector.
SEXTANT_SIMD_INLINE Vec load_part(const float* p, int64_t count) {
  if (count >= kLanes) return load(p);
#if defined(SEXTANT_SIMD_512)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1 << count) - 1), p);
#else
  Vec v = {};
  for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
#endif
}
SEXTANT_SIMD_INLINE void store_part(float* p, Vec v, int64_t count) {
  if (count >= kLanes) return store(p, v);
#if defined(SEXTANT_SIMD_512)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1 << count) - 1), v);
#else
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
#endif
}

// x - 0 is x for every x, x + 0 is not: one instruction.
SEXTANT_SIMD_INLINE Vec splat(float x) { return x - Vec{}; }

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
