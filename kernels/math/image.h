// SPDX-License-Identifier: Apache-2.0
// The arithmetic of image preprocessing and augmentation on bytes, one definition for the CPU and
// CUDA: resizing, affine warping and colour jitter, in integers as OpenCV has them
// (data/image/resize.h, data/augment/affine.h and data/augment/hsv.h say what is matched).
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/math/activation.h"

namespace sextant::kernels::image {

SEXTANT_HD int limited(int v, int low, int high) { return v < low ? low : (v > high ? high : v); }

// --- resizing -----------------------------------------------------------------------------------

inline constexpr int kTapOne = 1 << 11;  // a weight of 1

// A result position along one axis: two source positions and their weights.
struct LinearTap {
  int first, second;
  int weight_first, weight_second;
};

// Position d of `result` over a source of `source` pixels. Along x OpenCV takes a border pixel
// whole; along y it adds up two shares of the border row, which rounds differently.
SEXTANT_HD LinearTap linear_tap(int d, int source, int result, bool area_flavour, bool along_x) {
  const double inverse = static_cast<double>(result) / source;
  const double step = 1.0 / inverse;
  int at = 0;
  float fraction = 0.0f;
  if (area_flavour) {
    at = static_cast<int>(std::floor(d * step));
    fraction = static_cast<float>((d + 1) - (at + 1) * inverse);
    fraction = fraction <= 0 ? 0.0f : fraction - std::floor(fraction);
  } else {
    fraction = static_cast<float>((d + 0.5) * step - 0.5);
    at = static_cast<int>(std::floor(fraction));
    fraction -= static_cast<float>(at);
  }
  LinearTap tap{};
  tap.first = limited(at, 0, source - 1);
  tap.second = limited(at + 1, 0, source - 1);
  if (along_x && tap.first == tap.second) fraction = 0.0f;
  tap.weight_first = static_cast<int>(std::lrint((1.0f - fraction) * kTapOne));
  tap.weight_second = static_cast<int>(std::lrint(fraction * kTapOne));
  return tap;
}

// Two neighbouring rows, each summed with 11-bit weights along x. OpenCV's rounding: 4 bits off
// before, 16 after the product, 2 at the end.
SEXTANT_HD uint8_t blended_rows(int a, int weight_a, int b, int weight_b) {
  return static_cast<uint8_t>((((weight_a * (a >> 4)) >> 16) + ((weight_b * (b >> 4)) >> 16) + 2) >>
                              2);
}

// --- affine warping -----------------------------------------------------------------------------

// Coordinates are kept in 1/1024 pixel and rounded to 1/32; weights are in 1/1024.
inline constexpr int kFine = 1024;
inline constexpr int kWarpSteps = 32;
inline constexpr int kHalfStep = kFine / kWarpSteps / 2;

SEXTANT_HD int64_t to_fine(double v) {
  const double fine = v * kFine;
  return std::lrint(fine < -2147483648.0 ? -2147483648.0
                                         : (fine > 2147483647.0 ? 2147483647.0 : fine));
}

// The source pixel up and left of a coordinate, and the weights of it and its neighbours.
struct WarpTap {
  int x, y;
  int w00, w01, w10, w11;  // [row][column]
};

// For fine coordinates, kHalfStep included. OpenCV keeps whole source coordinates in 16 bits.
SEXTANT_HD WarpTap warp_tap(int64_t fine_x, int64_t fine_y) {
  const int64_t fx = fine_x >> 5, fy = fine_y >> 5;
  const auto whole = [](int64_t v) {
    const int64_t w = v >> 5;
    return static_cast<int>(w < -32768 ? -32768 : (w > 32767 ? 32767 : w));
  };
  const int right = static_cast<int>(fx & (kWarpSteps - 1));
  const int below = static_cast<int>(fy & (kWarpSteps - 1));
  WarpTap t{};
  t.x = whole(fx);
  t.y = whole(fy);
  t.w11 = right * below;
  t.w10 = kWarpSteps * below - t.w11;
  t.w01 = kWarpSteps * right - t.w11;
  t.w00 = kFine - t.w01 - t.w10 - t.w11;
  return t;
}

SEXTANT_HD uint8_t warped(const WarpTap& t, int p00, int p01, int p10, int p11) {
  return static_cast<uint8_t>((p00 * t.w00 + p01 * t.w01 + p10 * t.w10 + p11 * t.w11 + kFine / 2) >>
                              10);
}

// --- colours ------------------------------------------------------------------------------------

inline constexpr int kHueRange = 180;
inline constexpr int kHsvShift = 12;

// Reciprocals in fixed point: 255 / v and 180 / (6 * difference), 0 for 0.
SEXTANT_HD int saturation_reciprocal(int v) {
  return v == 0 ? 0 : static_cast<int>(std::lrint((255 << kHsvShift) / (1.0 * v)));
}
SEXTANT_HD int hue_reciprocal(int difference) {
  return difference == 0
             ? 0
             : static_cast<int>(std::lrint((kHueRange << kHsvShift) / (6.0 * difference)));
}

// A pixel's red, green and blue, or hue, saturation and value.
struct Channels {
  int a, b, c;
};

// Largest value of a pixel and its distance from the smallest.
SEXTANT_HD int largest(Channels rgb) {
  const int rg = rgb.a > rgb.b ? rgb.a : rgb.b;
  return rg > rgb.c ? rg : rgb.c;
}
SEXTANT_HD int range_of(Channels rgb) {
  const int rg = rgb.a < rgb.b ? rgb.a : rgb.b;
  return largest(rgb) - (rg < rgb.c ? rg : rgb.c);
}

// `saturation` and `hue` are the reciprocals of largest() and range_of().
SEXTANT_HD Channels hsv_of(Channels rgb, int saturation, int hue) {
  const int v = largest(rgb);
  const int difference = range_of(rgb);
  const int s = (difference * saturation + (1 << (kHsvShift - 1))) >> kHsvShift;
  const int sector =
      v == rgb.a ? rgb.b - rgb.c
                 : (v == rgb.b ? rgb.c - rgb.a + 2 * difference : rgb.a - rgb.b + 4 * difference);
  const int h = (sector * hue + (1 << (kHsvShift - 1))) >> kHsvShift;
  return {h < 0 ? h + kHueRange : h, s, v};
}

// Each channel is v, p = v(1-s), q = v(1-sf) or t = v(1-s(1-f)), by the sector of the hue; f in
// 1/30, s in 1/255. The hue is below kHueRange.
SEXTANT_HD Channels rgb_of(Channels hsv) {
  constexpr int kSector = kHueRange / 6;
  constexpr int kUnit = 255 * kSector;
  const int sector = hsv.a / kSector;
  const int f = hsv.a - sector * kSector;
  const int v = hsv.c, s = hsv.b;
  // The quotient, rounded down, of a numerator below 2^21: half a step away from whole ones, so that
  // the rounding of f32 does not matter.
  const auto value = [&](int share) {
    const int numerator = v * (kUnit - s * share) + kUnit / 2;
    return static_cast<int>((static_cast<float>(numerator) + 0.5f) * (1.0f / kUnit));
  };
  const int p = value(kSector), q = value(f), t = value(kSector - f);
  return {sector == 0 || sector == 5 ? v : (sector == 1 ? q : (sector == 4 ? t : p)),
          sector == 1 || sector == 2 ? v : (sector == 3 ? q : (sector == 0 ? t : p)),
          sector == 3 || sector == 4 ? v : (sector == 5 ? q : (sector == 2 ? t : p))};
}

// --- blending -----------------------------------------------------------------------------------

SEXTANT_HD uint8_t mixed(uint8_t a, uint8_t b, double ratio) {
  return static_cast<uint8_t>(a * ratio + b * (1.0 - ratio));
}

}  // namespace sextant::kernels::image
