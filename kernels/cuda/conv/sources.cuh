// SPDX-License-Identifier: Apache-2.0
// The operands of a convolution's matrix product. A source gives the address of its element (i, k);
// i is the output's row or column, k the index summed over. One of the two is fixed for a thread,
// the other moves with the loop, so each has a state of its own: at(fixed(i), moving(k)). An
// address outside the tensor (padding, the edges of i and k) is null: a zero.
//
// kAlongK: neighbours in memory are neighbours in k, else in i. `piece`: bytes that can be copied
// at once: 16, 8, 4, or 0 for single elements.
#pragma once

#include "kernels/cuda/device/pack.cuh"

namespace sextant::kernels::cuda {

// Added to a coordinate that has no element: any other coordinate added to it stays outside.
inline constexpr int kOutside = 1 << 29;

// A tensor [images, height, width, channels], `pitch` elements from one pixel to the next, seen
// through a convolution: pixel p of a grid [images, rows, columns] and tap column q = (tap row, tap
// column, channel) meet at
//   y = grid row * stride + first_y + tap row * tap_step, x likewise.
// Forward: the input through the output's grid. Data gradient: the output's gradient through the
// grid of the input pixels of one phase, with tap_step -1.
struct GatherShape {
  int height, width, pitch;  // of the tensor
  int pixels, taps;          // of the grid; tap columns
  int stride, first_y, first_x, tap_step;
  Divider<uint32_t> plane, row;           // pixels of the grid per image, per row
  Divider<uint32_t> tap_row, tap_column;  // tap columns per row of taps, per tap
};

template <class E>
struct Gather {
  using Element = E;
  const E* base;
  int piece;
  GatherShape s;

  struct Pixel {
    int64_t image;
    int y, x;
  };
  struct Tap {
    int y, x, channel;
  };
  __device__ __forceinline__ Pixel pixel(int p) const {
    if (p >= s.pixels) return {0, kOutside, 0};
    const auto u = static_cast<uint32_t>(p);
    const uint32_t image = s.plane.quotient(u);
    const uint32_t within = u - image * s.plane.divisor;
    const uint32_t row = s.row.quotient(within);
    const uint32_t column = within - row * s.row.divisor;
    return {static_cast<int64_t>(image) * s.height * s.width * s.pitch,
            static_cast<int>(row) * s.stride + s.first_y,
            static_cast<int>(column) * s.stride + s.first_x};
  }
  __device__ __forceinline__ Tap tap(int q) const {
    if (q >= s.taps) return {kOutside, 0, 0};
    const auto u = static_cast<uint32_t>(q);
    const uint32_t row = s.tap_row.quotient(u);
    const uint32_t within = u - row * s.tap_row.divisor;
    const uint32_t column = s.tap_column.quotient(within);
    return {static_cast<int>(row) * s.tap_step, static_cast<int>(column) * s.tap_step,
            static_cast<int>(within - column * s.tap_column.divisor)};
  }
  __device__ __forceinline__ const E* address(const Pixel& p, const Tap& t) const {
    const int y = p.y + t.y, x = p.x + t.x;
    if (static_cast<unsigned>(y) >= static_cast<unsigned>(s.height) ||
        static_cast<unsigned>(x) >= static_cast<unsigned>(s.width))
      return nullptr;
    return base + p.image + (static_cast<int64_t>(y) * s.width + x) * s.pitch + t.channel;
  }
};

// i is the pixel, k the tap column.
template <class E>
struct PixelsByTaps : Gather<E> {
  static constexpr bool kAlongK = true;
  using Fixed = typename Gather<E>::Pixel;
  using Moving = typename Gather<E>::Tap;
  __device__ __forceinline__ Fixed fixed(int i) const { return this->pixel(i); }
  __device__ __forceinline__ Moving moving(int k) const { return this->tap(k); }
  __device__ __forceinline__ const E* at(const Fixed& f, const Moving& m) const {
    return this->address(f, m);
  }
};
// The other way round.
template <class E>
struct TapsByPixels : Gather<E> {
  static constexpr bool kAlongK = false;
  using Fixed = typename Gather<E>::Tap;
  using Moving = typename Gather<E>::Pixel;
  __device__ __forceinline__ Fixed fixed(int i) const { return this->tap(i); }
  __device__ __forceinline__ Moving moving(int k) const { return this->pixel(k); }
  __device__ __forceinline__ const E* at(const Fixed& f, const Moving& m) const {
    return this->address(m, f);
  }
};

// A matrix: element (i, k) at base[i * pitch + k] (along k) or base[k * pitch + i].
template <class E, bool kAlong>
struct Matrix {
  using Element = E;
  static constexpr bool kAlongK = kAlong;
  using Fixed = int64_t;  // offset, negative when outside
  using Moving = int64_t;
  const E* base;
  int piece;
  int extent_i, extent_k;
  int64_t pitch;
  __device__ __forceinline__ Fixed fixed(int i) const {
    return i < extent_i ? (kAlong ? i * pitch : i) : -1;
  }
  __device__ __forceinline__ Moving moving(int k) const {
    return k < extent_k ? (kAlong ? k : k * pitch) : -1;
  }
  __device__ __forceinline__ const E* at(Fixed f, Moving m) const {
    return f < 0 || m < 0 ? nullptr : base + f + m;
  }
};

// Weights [oc, taps, ic] for the data gradient: i the input channel, k = (tap, output channel) over
// the taps of one phase, [rows, columns] of them.
template <class E>
struct PhaseWeights {
  using Element = E;
  static constexpr bool kAlongK = false;
  using Fixed = int;
  using Moving = int64_t;
  const E* base;
  int piece;
  int extent_i, extent_k;
  int first_tap, row_step, column_step;  // of all kh * kw
  int64_t tap_pitch, channel_pitch;      // ic, kh * kw * ic
  Divider<uint32_t> tap, tap_row;        // output channels; taps per row
  __device__ __forceinline__ Fixed fixed(int i) const { return i < extent_i ? i : -1; }
  __device__ __forceinline__ Moving moving(int k) const {
    if (k >= extent_k) return -1;
    const uint32_t u = tap.quotient(static_cast<uint32_t>(k));
    const uint32_t channel = static_cast<uint32_t>(k) - u * tap.divisor;
    const uint32_t row = tap_row.quotient(u);
    const int at = first_tap + static_cast<int>(row) * row_step +
                   static_cast<int>(u - row * tap_row.divisor) * column_step;
    return channel * channel_pitch + at * tap_pitch;
  }
  __device__ __forceinline__ const E* at(Fixed f, Moving m) const {
    return f < 0 || m < 0 ? nullptr : base + m + f;
  }
};

// Bytes that can be copied at once from rows of `contiguous` elements that start at `base`.
template <class E>
int piece_of(const E* base, int64_t contiguous) {
  for (const int bytes : {16, 8, 4})
    if (contiguous * static_cast<int64_t>(sizeof(E)) % bytes == 0 &&
        reinterpret_cast<uintptr_t>(base) % static_cast<uintptr_t>(bytes) == 0)
      return bytes;
  return 0;
}

}  // namespace sextant::kernels::cuda
