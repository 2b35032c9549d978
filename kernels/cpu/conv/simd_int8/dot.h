// SPDX-License-Identifier: Apache-2.0
// Products of small integers, summed into 32 bits: the step of the int8 convolutions.
#pragma once

#include "kernels/cpu/conv/simd/block.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

using VecU = uint32_t __attribute__((vector_size(4 * kLanes)));
using VecS = int16_t __attribute__((vector_size(4 * kLanes)));

#if defined(SEXTANT_SIMD_AVX2_VNNI) || defined(SEXTANT_SIMD_AVX512_VNNI)
inline constexpr bool kVnni = true;
#else
inline constexpr bool kVnni = false;
#endif

// A step: as many values as a 32-bit lane takes. VNNI multiplies unsigned by signed bytes: signed
// inputs are raised by kRaise, and their sums begin as much times the sum of the weights lower.
inline constexpr int64_t kPerStep = kVnni ? 4 : 2;
inline constexpr int32_t kRaise = 128;

// Lanes of `acc` plus the products of two 16-bit integers each; wraps.
SEXTANT_SIMD_INLINE VecI add_pairs(VecI acc, VecI x, VecI w) {
#if defined(SEXTANT_SIMD_AVX512_VNNI)
  return reinterpret_cast<VecI>(_mm512_dpwssd_epi32(
      reinterpret_cast<__m512i>(acc), reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)));
#elif defined(SEXTANT_SIMD_AVX2_VNNI)
  return reinterpret_cast<VecI>(_mm256_dpwssd_avx_epi32(
      reinterpret_cast<__m256i>(acc), reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w)));
#elif defined(SEXTANT_SIMD_AVX512)
  return reinterpret_cast<VecI>(_mm512_add_epi32(
      reinterpret_cast<__m512i>(acc),
      _mm512_madd_epi16(reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w))));
#elif defined(SEXTANT_SIMD_AVX2)
  return reinterpret_cast<VecI>(_mm256_add_epi32(
      reinterpret_cast<__m256i>(acc),
      _mm256_madd_epi16(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w))));
#else
  const VecU low = reinterpret_cast<VecU>(((x << 16) >> 16) * ((w << 16) >> 16));
  const VecU high = reinterpret_cast<VecU>((x >> 16) * (w >> 16));
  return reinterpret_cast<VecI>(reinterpret_cast<VecU>(acc) + low + high);
#endif
}

// The same for four unsigned by four signed bytes each, where there is VNNI.
#if defined(SEXTANT_SIMD_AVX512_VNNI)
SEXTANT_SIMD_INLINE VecI add_quads(VecI acc, VecI x, VecI w) {
  return reinterpret_cast<VecI>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(acc), reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)));
}
#elif defined(SEXTANT_SIMD_AVX2_VNNI)
SEXTANT_SIMD_INLINE VecI add_quads(VecI acc, VecI x, VecI w) {
  return reinterpret_cast<VecI>(_mm256_dpbusd_avx_epi32(
      reinterpret_cast<__m256i>(acc), reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w)));
}
#else
SEXTANT_SIMD_INLINE VecI add_quads(VecI acc, VecI, VecI) { return acc; }
#endif
SEXTANT_SIMD_INLINE VecI add_steps(VecI acc, VecI x, VecI w) {
  return kVnni ? add_quads(acc, x, w) : add_pairs(acc, x, w);
}

SEXTANT_SIMD_INLINE VecI load_ints(const int32_t* p) {
  VecI v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
SEXTANT_SIMD_INLINE void store_ints(int32_t* p, VecI v) { std::memcpy(p, &v, sizeof(v)); }

// What a tile reads: `rows` runs of `length` steps, `row` bytes apart, from each of its pixels. A step
// is two 16-bit integers or four bytes.
struct StepSource {
  const std::byte* x;
  int64_t pixel, row, rows, length;
};

// w: [rows, length, V * kLanes] steps; sums: [P, V * kLanes], from `start` [V * kLanes] on (null: 0).
template <bool kQuads, int P, int V>
void sum_steps(const StepSource& s, const int32_t* w, const int32_t* start, int32_t* sums) {
  VecI acc[P][V] = {};
  if (start) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[p][v] = load_ints(start + v * kLanes);
  }
  const std::byte* row = s.x;
  for (int64_t r = 0; r < s.rows; ++r, row += s.row) {
    const std::byte* x = row;
    for (const std::byte* const end = row + 4 * s.length; x != end; x += 4, w += V * kLanes) {
      VecI weights[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) weights[v] = load_ints(w + v * kLanes);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        int32_t step;
        std::memcpy(&step, x + p * s.pixel, sizeof(step));
        const VecI value = step - VecI{};
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
          acc[p][v] = kQuads ? add_quads(acc[p][v], value, weights[v])
                             : add_pairs(acc[p][v], value, weights[v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store_ints(sums + (p * V + v) * kLanes, acc[p][v]);
}

using SumSteps = void (*)(const StepSource&, const int32_t*, const int32_t*, int32_t*);
template <int P, int V>
struct PairTile {
  static constexpr auto sum = sum_steps<false, P, V>;
};
template <int P, int V>
struct QuadTile {
  static constexpr auto sum = sum_steps<true, P, V>;
};

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
