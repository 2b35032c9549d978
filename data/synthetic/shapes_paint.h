// SPDX-License-Identifier: Apache-2.0
// Painting for the pictures of shapes_dataset.h: outlines, fills, backgrounds, film grain.
#pragma once

#include <functional>
#include <vector>

#include "core/rng.h"
#include "data/drawing/canvas.h"

namespace sextant::data::shapes {

// A filled region by its signed distance in pixels (negative inside; exact near the edge, which is
// what anti-aliasing needs) and its tight bounding box.
struct Outline {
  Rect bounds;
  std::function<double(double x, double y)> distance;
};

// A shape of a class of shape_names() around (x, y) with circumscribed diameter `size`; rotation
// and proportions drawn at random.
Outline make_shape(int class_id, double x, double y, double size, Rng& rng);

// Distractors, which belong to no class.
Outline make_blob(double x, double y, double size, Rng& rng);
Outline make_capsules(std::vector<Point> line, double width);
// A line, an arc or a scribble somewhere in a picture of this size.
Outline make_stroke(int width, int height, Rng& rng);

// How much of each pixel an outline covers, also outside the picture.
struct Mask {
  int x0 = 0, y0 = 0, width = 0, height = 0;
  std::vector<float> coverage;
  int64_t area = 0;  // pixels more than half covered

  template <class F>
  void each(const F& f) const {  // f(x, y, coverage)
    for (int j = 0; j < height; ++j)
      for (int i = 0; i < width; ++i)
        f(x0 + i, y0 + j,
          coverage[static_cast<size_t>(j) * static_cast<size_t>(width) + static_cast<size_t>(i)]);
  }
};
Mask rasterize(const Outline& outline);

// A fill: gives the colour for a pixel and its distance from the edge.
using Fill = std::function<Color(double x, double y, double distance)>;
// Plain, shaded, striped or dotted, with or without a rim, in colours around `base`.
Fill make_fill(Color base, double size, Rng& rng);
// A colour that contrasts with `ground`.
Color contrasting_color(Color ground, Rng& rng);

void paint(Image& image, const Outline& outline, const Mask& mask, const Fill& fill, double alpha);
// Darkens the background beside the outline, like a shadow.
void paint_shadow(Image& image, const Outline& outline, double dx, double dy, double softness,
                  double strength);
Color mean_color(const Image& image, const Mask& mask);

// Two colours, clouds of two sizes, sometimes a faint pattern.
Image make_ground(int width, int height, Rng& rng);
// Blur, a light fall-off towards the corners, grain.
void finish(Image& image, Rng& rng);

}  // namespace sextant::data::shapes
