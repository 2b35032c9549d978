// SPDX-License-Identifier: Apache-2.0
// Anti-aliased drawing on an Image: the few primitives under font, draw, plot and shapes.
//
// Coordinates are pixels; the pixel (i, j) covers the square [i, i+1) x [j, j+1). Everything is
// clipped at the image's border. Colours are blended as stored (sRGB values).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "data/image/image.h"

namespace sextant::data {

struct Color {
  uint8_t r = 0, g = 0, b = 0;
  bool operator==(const Color&) const = default;
};

// Hue in turns, saturation and value in [0, 1].
Color from_hsv(double hue, double saturation, double value);
// Perceived brightness in [0, 1]: decides between dark and light text.
double luminance(Color c);
Color mix(Color a, Color b, double t);

struct Point {
  double x = 0, y = 0;
};
struct Rect {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

Image filled_image(int width, int height, Color fill);

// Pixel (x, y) moves by `alpha` in [0, 1] towards the colour; outside the image nothing happens.
inline void blend(Image& image, int x, int y, Color c, float alpha) {
  if (x < 0 || y < 0 || x >= image.width || y >= image.height) return;
  uint8_t* p = image.pixels.data() + (static_cast<int64_t>(y) * image.width + x) * 3;
  const float rgb[3] = {static_cast<float>(c.r), static_cast<float>(c.g), static_cast<float>(c.b)};
  for (int k = 0; k < 3; ++k) {
    const float v = static_cast<float>(p[k]) + (rgb[k] - static_cast<float>(p[k])) * alpha;
    p[k] = static_cast<uint8_t>(std::clamp(v + 0.5f, 0.0f, 255.0f));
  }
}

// Edges between pixels are blended by the part covered.
void fill_rect(Image& image, const Rect& rect, Color color, double alpha = 1);
void fill_rounded_rect(Image& image, const Rect& rect, double radius, Color color,
                       double alpha = 1);
// The frame of `width` pixels whose outer edge is `rect`.
void stroke_rect(Image& image, const Rect& rect, double width, Color color, double alpha = 1);
// Round caps and joins; a pixel is blended once however often the line passes it, so `alpha` holds
// where it crosses itself. A single point, or two equal ones, is a dot.
void stroke(Image& image, std::span<const Point> line, double width, Color color, double alpha = 1);

}  // namespace sextant::data
