// SPDX-License-Identifier: Apache-2.0
// One pixel of kernels/augment.h, one definition for the CPU and CUDA.
#pragma once

#include "kernels/augment.h"
#include "kernels/math/image.h"

namespace sextant::kernels::image {

// Pixel (x, y) of image n's canvas.
SEXTANT_HD void letterbox_pixel(const Letterbox& p, int64_t n, int x, int y, uint8_t* rgb) {
  const LetterboxImage& from = p.images[n];
  const int column = x - from.left;
  const int row = y - from.top;
  if (column < 0 || row < 0 || column >= from.resized_width || row >= from.resized_height) {
    for (int c = 0; c < 3; ++c) rgb[c] = p.pad;
    return;
  }
  const auto at = [&](int px, int py) {
    return from.pixels + 3 * (static_cast<int64_t>(py) * from.width + px);
  };
  if (from.resized_width == from.width && from.resized_height == from.height) {
    const uint8_t* s = at(column, row);
    for (int c = 0; c < 3; ++c) rgb[c] = s[c];
    return;
  }
  if (2 * from.resized_width == from.width && 2 * from.resized_height == from.height) {
    const uint8_t* a = at(2 * column, 2 * row);
    const uint8_t* b = at(2 * column, 2 * row + 1);
    for (int c = 0; c < 3; ++c)
      rgb[c] = static_cast<uint8_t>((a[c] + a[3 + c] + b[c] + b[3 + c] + 2) >> 2);
    return;
  }
  const LinearTap tx = linear_tap(column, from.width, from.resized_width, false, true);
  const LinearTap ty = linear_tap(row, from.height, from.resized_height, false, false);
  const uint8_t* above[2] = {at(tx.first, ty.first), at(tx.second, ty.first)};
  const uint8_t* below[2] = {at(tx.first, ty.second), at(tx.second, ty.second)};
  for (int c = 0; c < 3; ++c) {
    const int a = above[0][c] * tx.weight_first + above[1][c] * tx.weight_second;
    const int b = below[0][c] * tx.weight_first + below[1][c] * tx.weight_second;
    rgb[c] = blended_rows(a, ty.weight_first, b, ty.weight_second);
  }
}

// Pixel (x, y) of a canvas; null: the pad value.
SEXTANT_HD const uint8_t* canvas_pixel(const AugmentPicture& p, int x, int y) {
  if (x < 0 || y < 0 || x >= p.canvas_width || y >= p.canvas_height) return nullptr;
  for (int i = p.images - 1; i >= 0; --i) {
    const PlacedImage& image = p.image[i];
    const int column = x - image.left;
    const int row = y - image.top;
    if (column >= 0 && row >= 0 && column < image.width && row < image.height)
      return image.pixels + 3 * (static_cast<int64_t>(row) * image.width + column);
  }
  return nullptr;
}

// Pixel (x, y) of a picture, before flips.
SEXTANT_HD void picture_pixel(const AugmentPicture& p, int x, int y, uint8_t pad, uint8_t* rgb) {
  const double* m = p.inverse;
  const WarpTap t = warp_tap(to_fine(m[1] * y + m[2]) + kHalfStep + to_fine(m[0] * x),
                             to_fine(m[4] * y + m[5]) + kHalfStep + to_fine(m[3] * x));
  const uint8_t* corner[4] = {canvas_pixel(p, t.x, t.y), canvas_pixel(p, t.x + 1, t.y),
                              canvas_pixel(p, t.x, t.y + 1), canvas_pixel(p, t.x + 1, t.y + 1)};
  for (int c = 0; c < 3; ++c) {
    int v[4];
    for (int i = 0; i < 4; ++i) v[i] = corner[i] != nullptr ? corner[i][c] : pad;
    rgb[c] = warped(t, v[0], v[1], v[2], v[3]);
  }
}

// Pixel (x, y) of sample n's result.
SEXTANT_HD void augmented_pixel(const Augment& p, int64_t n, int x, int y, uint8_t* rgb) {
  const AugmentSample& s = p.samples[n];
  if (s.flip_left_right != 0) x = p.width - 1 - x;
  if (s.flip_up_down != 0) y = p.height - 1 - y;
  picture_pixel(s.picture[0], x, y, p.pad, rgb);
  if (s.pictures > 1) {
    uint8_t other[3];
    picture_pixel(s.picture[1], x, y, p.pad, other);
    for (int c = 0; c < 3; ++c) rgb[c] = mixed(rgb[c], other[c], s.mix_ratio);
  }
  if (s.jitter == 0) return;
  const Channels before{rgb[0], rgb[1], rgb[2]};
  const Channels hsv =
      hsv_of(before, saturation_reciprocal(largest(before)), hue_reciprocal(range_of(before)));
  const Channels after = rgb_of({s.hue[hsv.a], s.saturation[hsv.b], s.value[hsv.c]});
  rgb[0] = static_cast<uint8_t>(after.a);
  rgb[1] = static_cast<uint8_t>(after.b);
  rgb[2] = static_cast<uint8_t>(after.c);
}

// Writes a pixel of `bytes` and `floats`, [rows, columns, 3] both.
template <class P>
SEXTANT_HD void write_pixel(const P& p, int64_t pixel, const uint8_t* rgb) {
  for (int c = 0; c < 3; ++c) {
    if (p.bytes != nullptr) p.bytes[3 * pixel + c] = rgb[c];
    if (p.floats != nullptr) p.floats[3 * pixel + c] = static_cast<float>(rgb[c]) / 255.0f;
  }
}

}  // namespace sextant::kernels::image
