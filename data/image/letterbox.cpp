// SPDX-License-Identifier: Apache-2.0
#include "data/image/letterbox.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "data/image/resize.h"

namespace sextant::data {
namespace {

int rounded(double v) { return static_cast<int>(std::lrint(v)); }  // half to even

float scaled(float v, double offset_before, int numerator, int denominator, double offset_after) {
  return static_cast<float>((static_cast<double>(v) + offset_before) * numerator / denominator +
                            offset_after);
}

}  // namespace

Box LetterboxGeometry::to_canvas(const Box& box) const {
  return {scaled(box[0], 0, resized_width, image_width, left),
          scaled(box[1], 0, resized_height, image_height, top),
          scaled(box[2], 0, resized_width, image_width, left),
          scaled(box[3], 0, resized_height, image_height, top)};
}

Box LetterboxGeometry::to_image(const Box& box) const {
  return {scaled(box[0], -left, image_width, resized_width, 0),
          scaled(box[1], -top, image_height, resized_height, 0),
          scaled(box[2], -left, image_width, resized_width, 0),
          scaled(box[3], -top, image_height, resized_height, 0)};
}

LetterboxGeometry letterbox_geometry(int image_width, int image_height,
                                     const LetterboxOptions& options) {
  check(image_width > 0 && image_height > 0 && options.width > 0 && options.height > 0,
        "letterbox: image {}x{} onto canvas {}x{}: every side must be positive", image_width,
        image_height, options.width, options.height);
  const int width = options.width - 2 * options.border;
  const int height = options.height - 2 * options.border;
  check(options.border >= 0 && width > 0 && height > 0,
        "letterbox: a border of {} leaves no room on a canvas of {}x{}", options.border,
        options.width, options.height);
  double ratio = std::min(static_cast<double>(height) / image_height,
                          static_cast<double>(width) / image_width);
  if (!options.scale_up) ratio = std::min(ratio, 1.0);
  LetterboxGeometry g;
  g.image_width = image_width;
  g.image_height = image_height;
  g.canvas_width = options.width;
  g.canvas_height = options.height;
  g.ratio = ratio;
  g.resized_width = std::clamp(rounded(image_width * ratio), 1, width);
  g.resized_height = std::clamp(rounded(image_height * ratio), 1, height);
  g.left = std::max(0, rounded((options.width - g.resized_width) / 2.0 - 0.1));
  g.top = std::max(0, rounded((options.height - g.resized_height) / 2.0 - 0.1));
  return g;
}

Box clip_box(const Box& box, int width, int height) {
  const float w = static_cast<float>(width);
  const float h = static_cast<float>(height);
  return {std::clamp(box[0], 0.0f, w), std::clamp(box[1], 0.0f, h), std::clamp(box[2], 0.0f, w),
          std::clamp(box[3], 0.0f, h)};
}

void letterbox_into(const Image& image, const LetterboxGeometry& g, uint8_t pad, uint8_t* canvas) {
  const bool original = image.width == g.image_width && image.height == g.image_height;
  const bool resized = image.width == g.resized_width && image.height == g.resized_height;
  check(original || resized, "letterbox: image is {}x{}, expected {}x{} or {}x{}", image.width,
        image.height, g.image_width, g.image_height, g.resized_width, g.resized_height);
  const int64_t pitch = int64_t{3} * g.canvas_width;
  const int64_t used = int64_t{3} * g.resized_width;
  uint8_t* inside = canvas + g.top * pitch + int64_t{3} * g.left;
  const int below = g.top + g.resized_height;
  std::memset(canvas, pad, static_cast<size_t>(g.top * pitch));
  std::memset(canvas + below * pitch, pad, static_cast<size_t>((g.canvas_height - below) * pitch));
  const size_t before = static_cast<size_t>(3 * g.left);
  const size_t after = static_cast<size_t>(pitch - used) - before;
  for (int y = 0; y < g.resized_height; ++y) {
    uint8_t* row = inside + y * pitch;
    std::memset(row - before, pad, before);
    std::memset(row + used, pad, after);
  }
  resize_bilinear_into(image, g.resized_width, g.resized_height, inside, pitch);
}

Letterboxed letterbox(const Image& image, const LetterboxOptions& options) {
  Letterboxed out;
  out.geometry = letterbox_geometry(image.width, image.height, options);
  out.canvas = make_image(options.width, options.height, options.pad);
  letterbox_into(image, out.geometry, options.pad, out.canvas.pixels.data());
  return out;
}

}  // namespace sextant::data
