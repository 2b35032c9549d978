// SPDX-License-Identifier: Apache-2.0
#include "data/drawing/canvas.h"

#include <cmath>
#include <vector>

namespace sextant::data {
namespace {

// The fraction of pixel i covered by [low, high].
float covered(int i, double low, double high) {
  return static_cast<float>(std::clamp(std::min(high, i + 1.0) - std::max(low, i + 0.0), 0.0, 1.0));
}

struct PixelBox {
  int x0, y0, x1, y1;  // end excluded, within the image
};

PixelBox pixels_of(const Image& image, const Rect& r, double margin) {
  const auto limit = [](double v, int n) {
    return v > 0 ? static_cast<int>(std::min(v, static_cast<double>(n))) : 0;  // NaN: 0
  };
  return {
      limit(std::floor(r.x0 - margin), image.width), limit(std::floor(r.y0 - margin), image.height),
      limit(std::ceil(r.x1 + margin), image.width), limit(std::ceil(r.y1 + margin), image.height)};
}

double distance_to_segment(double x, double y, const Point& a, const Point& b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double length2 = dx * dx + dy * dy;
  const double t =
      length2 > 0 ? std::clamp(((x - a.x) * dx + (y - a.y) * dy) / length2, 0.0, 1.0) : 0.0;
  return std::hypot(x - a.x - t * dx, y - a.y - t * dy);
}

}  // namespace

Color from_hsv(double hue, double saturation, double value) {
  const double h = (hue - std::floor(hue)) * 6;
  const auto channel = [&](double offset) {
    const double k = std::fmod(offset + h, 6.0);
    const double v = value - value * saturation * std::clamp(std::min(k, 4 - k), 0.0, 1.0);
    return static_cast<uint8_t>(std::lround(std::clamp(v, 0.0, 1.0) * 255));
  };
  return {channel(5), channel(3), channel(1)};
}

double luminance(Color c) { return (0.299 * c.r + 0.587 * c.g + 0.114 * c.b) / 255; }

Color mix(Color a, Color b, double t) {
  const auto channel = [&](uint8_t x, uint8_t y) {
    return static_cast<uint8_t>(std::lround(x + (y - x) * std::clamp(t, 0.0, 1.0)));
  };
  return {channel(a.r, b.r), channel(a.g, b.g), channel(a.b, b.b)};
}

Image filled_image(int width, int height, Color fill) {
  Image image = make_image(width, height);
  for (size_t i = 0; i + 2 < image.pixels.size(); i += 3) {
    image.pixels[i] = fill.r;
    image.pixels[i + 1] = fill.g;
    image.pixels[i + 2] = fill.b;
  }
  return image;
}

void fill_rect(Image& image, const Rect& rect, Color color, double alpha) {
  const PixelBox box = pixels_of(image, rect, 0);
  for (int y = box.y0; y < box.y1; ++y) {
    const float row = covered(y, rect.y0, rect.y1) * static_cast<float>(alpha);
    for (int x = box.x0; x < box.x1; ++x)
      blend(image, x, y, color, row * covered(x, rect.x0, rect.x1));
  }
}

void fill_rounded_rect(Image& image, const Rect& rect, double radius, Color color, double alpha) {
  const double cx = (rect.x0 + rect.x1) / 2, cy = (rect.y0 + rect.y1) / 2;
  const double hx = (rect.x1 - rect.x0) / 2, hy = (rect.y1 - rect.y0) / 2;
  const double r = std::min({radius, hx, hy});
  if (r <= 0) return fill_rect(image, rect, color, alpha);
  const PixelBox box = pixels_of(image, rect, 0);
  for (int y = box.y0; y < box.y1; ++y)
    for (int x = box.x0; x < box.x1; ++x) {
      const double qx = std::abs(x + 0.5 - cx) - hx + r, qy = std::abs(y + 0.5 - cy) - hy + r;
      const double d = qx > 0 && qy > 0 ? std::hypot(qx, qy) - r : std::max(qx, qy) - r;
      blend(image, x, y, color, static_cast<float>(std::clamp(0.5 - d, 0.0, 1.0) * alpha));
    }
}

void stroke_rect(Image& image, const Rect& rect, double width, Color color, double alpha) {
  const double w = std::min({width, (rect.x1 - rect.x0) / 2, (rect.y1 - rect.y0) / 2});
  if (w <= 0) return;
  fill_rect(image, {rect.x0, rect.y0, rect.x1, rect.y0 + w}, color, alpha);
  fill_rect(image, {rect.x0, rect.y1 - w, rect.x1, rect.y1}, color, alpha);
  fill_rect(image, {rect.x0, rect.y0 + w, rect.x0 + w, rect.y1 - w}, color, alpha);
  fill_rect(image, {rect.x1 - w, rect.y0 + w, rect.x1, rect.y1 - w}, color, alpha);
}

void stroke(Image& image, std::span<const Point> line, double width, Color color, double alpha) {
  if (line.empty()) return;
  const double half = width / 2;
  Rect bounds{line[0].x, line[0].y, line[0].x, line[0].y};
  for (const Point& p : line) {
    if (!std::isfinite(p.x) || !std::isfinite(p.y)) return;
    bounds = {std::min(bounds.x0, p.x), std::min(bounds.y0, p.y), std::max(bounds.x1, p.x),
              std::max(bounds.y1, p.y)};
  }
  const PixelBox all = pixels_of(image, bounds, half + 1);
  if (all.x0 >= all.x1 || all.y0 >= all.y1) return;
  const int pitch = all.x1 - all.x0;
  std::vector<float> coverage(static_cast<size_t>(pitch) * static_cast<size_t>(all.y1 - all.y0));
  const size_t segments = std::max<size_t>(line.size() - 1, 1);
  for (size_t s = 0; s < segments; ++s) {
    const Point a = line[s], b = line[std::min(s + 1, line.size() - 1)];
    const PixelBox box = pixels_of(
        image, {std::min(a.x, b.x), std::min(a.y, b.y), std::max(a.x, b.x), std::max(a.y, b.y)},
        half + 1);
    for (int y = box.y0; y < box.y1; ++y)
      for (int x = box.x0; x < box.x1; ++x) {
        const double d = distance_to_segment(x + 0.5, y + 0.5, a, b);
        float& c = coverage[static_cast<size_t>((y - all.y0) * pitch + x - all.x0)];
        // A line thinner than a pixel gets lighter, not thinner.
        c = std::max(c, static_cast<float>(std::clamp(half + 0.5 - d, 0.0, std::min(1.0, width))));
      }
  }
  for (int y = all.y0; y < all.y1; ++y)
    for (int x = all.x0; x < all.x1; ++x) {
      const float c = coverage[static_cast<size_t>((y - all.y0) * pitch + x - all.x0)];
      if (c > 0) blend(image, x, y, color, c * static_cast<float>(alpha));
    }
}

}  // namespace sextant::data
