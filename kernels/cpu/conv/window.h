// SPDX-License-Identifier: Apache-2.0
// The geometry of a convolution as its kernels see it.
#pragma once

#include <cstdint>

#include "kernels/conv.h"

namespace sextant::kernels::cpu {

// Where the pixels of a tensor lie, in elements.
struct Strides {
  int64_t image = 0, row = 0, pixel = 0;

  int64_t at(int64_t n, int64_t y, int64_t x) const { return n * image + y * row + x * pixel; }
  // Whether all pixels of [h, w] images are `pixel` apart.
  bool even(int64_t h, int64_t w) const { return row == w * pixel && image == h * row; }
};
// [n, h, w] pixels `pitch` apart.
inline Strides strides_of(int64_t h, int64_t w, int64_t pitch) {
  return {h * w * pitch, w * pitch, pitch};
}

template <class T>
struct Pixels : Strides {
  Pixels() = default;
  Pixels(T* pixels, const Strides& strides) : Strides(strides), data(pixels) {}
  T* at(int64_t n, int64_t y, int64_t x) const { return data + Strides::at(n, y, x); }

  T* data = nullptr;
};
template <class T>
Pixels<T> pixels_of(T* data, int64_t h, int64_t w, int64_t pitch) {
  return {data, strides_of(h, w, pitch)};
}

// Which products are summed: y(row, column, o) = sum of x(row * stride - top + ky, column * stride -
// left + kx, i) w(o, ky, kx, i) over ky, kx and i; x is zero outside its image.
struct Window {
  int64_t n = 1, h = 1, w = 1, ic = 1;
  int64_t oh = 1, ow = 1, oc = 1;
  int64_t kh = 1, kw = 1, stride = 1, top = 0, left = 0;

  bool pointwise() const { return kh == 1 && kw == 1 && top == 0 && left == 0; }
};

// One group's.
inline Window window_of(const ConvShape& s) {
  return {.n = s.n,
          .h = s.h,
          .w = s.w,
          .ic = s.ic / s.groups,
          .oh = s.oh(),
          .ow = s.ow(),
          .oc = s.oc / s.groups,
          .kh = s.kh,
          .kw = s.kw,
          .stride = s.stride,
          .top = s.pad,
          .left = s.pad};
}
// All groups of a depthwise convolution at once.
inline Window depthwise_window_of(const ConvShape& s) {
  Window w = window_of(s);
  w.ic = w.oc = s.groups;
  return w;
}
inline bool can_winograd(const Window& w) { return w.kh == 3 && w.kw == 3 && w.stride == 1; }

}  // namespace sextant::kernels::cpu
