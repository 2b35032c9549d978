// SPDX-License-Identifier: Apache-2.0
// The micro-kernel of the f32 convolutions: sums of up to kTile pixels by a block of channels, held
// in registers. A step takes one input channel: the weights of the block are loaded, each pixel's
// value is broadcast. On AVX2 that is 6 pixels by 16 channels, 12 multiply-adds for 8 loads.
#pragma once

#include "kernels/cpu/conv/f32.h"
#include "kernels/cpu/conv/simd/block.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

// What a tile reads: `rows` runs of `length` values, `row` apart, from each of its pixels.
struct TileSource {
  const float* x;
  int64_t pixel, row, rows, length;
};

// Where it goes: y = relu(sum + bias + before) + after; one of the last two may be there.
struct TileTarget {
  float* y;
  int64_t pixel;
  const float* bias = nullptr;      // null: zeros
  const float* residual = nullptr;  // or null
  int64_t residual_pixel = 0;
  float residual_scale = 1.0f;
  bool residual_before_activation = false;
  bool relu = false;
};

// w: [rows, length, V * kLanes].
template <int P, int V>
void sum_tile(const TileSource& s, const float* w, const TileTarget& t) {
  Vec acc[P][V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const Vec bias = t.bias ? load(t.bias + v * kLanes) : Vec{};
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) acc[p][v] = bias;
  }
  if (t.residual && t.residual_before_activation) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        acc[p][v] += t.residual_scale * load(t.residual + p * t.residual_pixel + v * kLanes);
  }
  const float* row = s.x;
  for (int64_t r = 0; r < s.rows; ++r, row += s.row) {
    const float* x = row;
    for (const float* const end = row + s.length; x != end; ++x, w += V * kLanes) {
      Vec weights[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) weights[v] = load(w + v * kLanes);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        const Vec value = splat(x[p * s.pixel]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[p][v] += value * weights[v];
      }
    }
  }
  if (t.relu) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[p][v] = activate<Activation::kReLU>(acc[p][v]);
  }
  if (t.residual && !t.residual_before_activation) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        acc[p][v] += t.residual_scale * load(t.residual + p * t.residual_pixel + v * kLanes);
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(t.y + p * t.pixel + v * kLanes, acc[p][v]);
}

template <int P, int V>
struct F32Tile {
  static constexpr auto sum = sum_tile<P, V>;
};
using SumTile = void (*)(const TileSource&, const float*, const TileTarget&);

// `pixels` in a row, cut evenly into tiles: 20 are four times 5.
SEXTANT_SIMD_INLINE void sum_tiles(const SumTile* tiles, TileSource s, const float* w, TileTarget t,
                                   int64_t pixels) {
  for (int64_t count = (pixels + kTile - 1) / kTile; count > 0; --count) {
    const int64_t p = pixels / count;
    tiles[p - 1](s, w, t);
    pixels -= p;
    s.x += p * s.pixel;
    t.y += p * t.pixel;
    if (t.residual) t.residual += p * t.residual_pixel;
  }
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
