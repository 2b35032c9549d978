// SPDX-License-Identifier: Apache-2.0
// The micro-kernel of the weight gradients: sums of outer products of two series of vectors. A step
// takes one pixel: values of up to kTile output channels are broadcast, times a block of inputs.
#pragma once

#include "kernels/cpu/conv/f32.h"
#include "kernels/cpu/conv/simd/block.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

// `rows` rows of `count` pixels; left values are broadcast, right ones loaded as vectors.
struct OuterSource {
  const float* left;
  const float* right;
  int64_t left_pixel, left_row, right_pixel, right_row;
  int64_t rows, count;
};

// sums[p, v] += the products, p rows `sum_row` apart.
template <int P, int V>
void add_outer(const OuterSource& s, float* sums, int64_t sum_row) {
  Vec acc[P][V];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[p][v] = load(sums + p * sum_row + v * kLanes);
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* left = s.left + r * s.left_row;
    const float* right = s.right + r * s.right_row;
    for (int64_t i = 0; i < s.count; ++i, left += s.left_pixel, right += s.right_pixel) {
      Vec block[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) block[v] = load(right + v * kLanes);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        const Vec value = splat(left[p]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[p][v] += value * block[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(sums + p * sum_row + v * kLanes, acc[p][v]);
}

template <int P, int V>
struct OuterTile {
  static constexpr auto sum = add_outer<P, V>;
};

// sums[outputs, lanes of `block`] += the products, `outputs` cut evenly into tiles.
SEXTANT_SIMD_INLINE void add_outers(OuterSource s, int64_t outputs, int vecs, float* sums,
                                    int64_t sum_row) {
  const auto* const tiles = tiles_of<OuterTile>(vecs);
  for (int64_t count = (outputs + kTile - 1) / kTile; count > 0; --count) {
    const int64_t p = outputs / count;
    tiles[p - 1](s, sums, sum_row);
    outputs -= p;
    s.left += p;
    sums += p * sum_row;
  }
}

// The gradients of the weights (o, ky, kx, i) of `count` inputs from i on, or of a vector of them.
SEXTANT_SIMD_INLINE void put(const WeightTarget& dw, int64_t o, int64_t ky, int64_t kx, int64_t i,
                             Vec v, int64_t count) {
  float* const to = dw.data + o * dw.o + ky * dw.ky + kx * dw.kx + i * dw.i;
  if (dw.i == 1) return store_part(to, v, count);
  for (int64_t l = 0; l < kLanes && l < count; ++l) to[l * dw.i] = v[l];
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
