// SPDX-License-Identifier: Apache-2.0
// The input transform of F(m x m, 3x3) in f32.
#pragma once

#include <algorithm>

#include "kernels/cpu/conv/simd/points.h"
#include "kernels/cpu/conv/simd/winograd_jobs.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {

SEXTANT_SIMD_INLINE int64_t whole_vectors(int64_t channels) {
  return (channels + kLanes - 1) / kLanes * kLanes;
}

// Where the pixels of a tile lie: evenly apart, or each by itself.
struct EvenPixels {
  const float* x;
  int64_t row, pixel;
  SEXTANT_SIMD_INLINE const float* at(int i, int j) const { return x + i * row + j * pixel; }
};
template <class F>
struct SinglePixels {
  const float* x[F::kIn][F::kIn];
  SEXTANT_SIMD_INLINE const float* at(int i, int j) const { return x[i][j]; }
};

// One tile's pixels -> [positions] `position` apart, `channels` each.
template <class F, class TilePixels>
void transform_input(const TilePixels& x, int64_t channels, float* to, int64_t position) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    Vec half[F::kIn][F::kIn];
#pragma GCC unroll 6
    for (int j = 0; j < F::kIn; ++j) {
      Vec d[F::kIn], t[F::kIn];
#pragma GCC unroll 6
      for (int i = 0; i < F::kIn; ++i) d[i] = load(x.at(i, j) + c);
      F::input(d, t);
#pragma GCC unroll 6
      for (int i = 0; i < F::kIn; ++i) half[i][j] = t[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < F::kIn; ++i) {
      Vec t[F::kIn];
      F::input(half[i], t);
#pragma GCC unroll 6
      for (int j = 0; j < F::kIn; ++j) store(to + (i * F::kIn + j) * position + c, t[j]);
    }
  }
}

// Tile `index` of the layer's input -> [positions], whole_vectors(ic) values each, zeros beyond ic.
// `patch`: room for a tile.
template <class F>
void transform_tile(const Window& win, const Pixels<const float>& x, const TileGrid& grid,
                    int64_t index, float* patch, float* to, int64_t position) {
  const int64_t n = grid.image(index), channels = whole_vectors(win.ic);
  const int64_t top = grid.row(index) - win.top, left = grid.column(index) - win.left;
  const bool whole = channels == win.ic;
  if (whole && top >= 0 && left >= 0 && top + F::kIn <= win.h && left + F::kIn <= win.w) {
    transform_input<F>(EvenPixels{x.at(n, top, left), x.row, x.pixel}, channels, to, position);
    return;
  }
  SinglePixels<F> pixels;
  for (int64_t i = 0; i < F::kIn; ++i)
    for (int64_t j = 0; j < F::kIn; ++j, patch += channels) {
      const int64_t row = top + i, column = left + j;
      const bool there = row >= 0 && row < win.h && column >= 0 && column < win.w;
      const float* const source = there ? x.at(n, row, column) : nullptr;
      pixels.x[i][j] = there && whole ? source : patch;
      if (there && whole) continue;
      if (there) std::copy_n(source, win.ic, patch);
      std::fill(patch + (there ? win.ic : 0), patch + channels, 0.0f);
    }
  transform_input<F>(pixels, channels, to, position);
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
