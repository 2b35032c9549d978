// SPDX-License-Identifier: Apache-2.0
// Letterboxing, the only preprocessing function. Training without mosaic, evaluation, calibration
// and the deployed binary all use it, so that a deployed model sees the same images as in training,
// evaluation and calibration.
//
//   image (RGB u8, any size) -> scaled by r = min(H/h, W/w), centred on a grey canvas [H,W,3]
//
// The geometry is the official letterbox's (data_augment.py): sides round(r * side), half to even;
// padding round(d - 0.1) left and top with d half of what remains; always whole pixels. Pixels are
// resized with resize_bilinear(). Division by 255 happens where pixels are converted to float.
#pragma once

#include <array>

#include "data/image/image.h"

namespace sextant::data {

// x1 y1 x2 y2 in pixels.
using Box = std::array<float, 4>;

struct LetterboxOptions {
  int width = 640;  // of the canvas
  int height = 640;
  bool scale_up = true;  // false: small images keep their size
  uint8_t pad = kPadValue;
  // Grey pixels on every side: the image is scaled to fit inside them (the official "shrink size",
  // 2 * border; 640 with 3 is its 634 + 3 + 3).
  int border = 0;
};

struct LetterboxGeometry {
  int image_width = 0;  // of the original
  int image_height = 0;
  int canvas_width = 0;
  int canvas_height = 0;
  int resized_width = 0;  // of the image on the canvas
  int resized_height = 0;
  int left = 0;  // padding
  int top = 0;
  double ratio = 1.0;  // of the official letterbox: min(H/h, W/w)

  // Boxes of the original image -> canvas, and back. The scale of each axis is the true one,
  // resized / original (as the official evaluator's), so that the two are inverses. to_image() does
  // not clip; see clip_box().
  Box to_canvas(const Box& box) const;
  Box to_image(const Box& box) const;
};

// Throws Error unless all sides are positive and the border leaves room for the image.
LetterboxGeometry letterbox_geometry(int image_width, int image_height,
                                     const LetterboxOptions& options);

// Limits a box to [0, width] x [0, height].
Box clip_box(const Box& box, int width, int height);

// Writes the canvas, canvas_height * canvas_width * 3 bytes. `image` is either the original
// (image_width x image_height, resized here) or already of the resized size (copied).
void letterbox_into(const Image& image, const LetterboxGeometry& geometry, uint8_t pad,
                    uint8_t* canvas);

struct Letterboxed {
  Image canvas;
  LetterboxGeometry geometry;
};
Letterboxed letterbox(const Image& image, const LetterboxOptions& options);

}  // namespace sextant::data
