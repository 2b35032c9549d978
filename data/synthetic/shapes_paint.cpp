// SPDX-License-Identifier: Apache-2.0
#include "data/synthetic/shapes_paint.h"

#include <cmath>
#include <limits>
#include <numbers>

namespace sextant::data::shapes {
namespace {

constexpr double kPi = std::numbers::pi;

Rect bounds_of(const std::vector<Point>& points) {
  Rect r{points[0].x, points[0].y, points[0].x, points[0].y};
  for (const Point& p : points)
    r = {std::min(r.x0, p.x), std::min(r.y0, p.y), std::max(r.x1, p.x), std::max(r.y1, p.y)};
  return r;
}

double segment_distance(double x, double y, const Point& a, const Point& b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double length2 = dx * dx + dy * dy;
  const double t =
      length2 > 0 ? std::clamp(((x - a.x) * dx + (y - a.y) * dy) / length2, 0.0, 1.0) : 0.0;
  const double ex = x - a.x - t * dx, ey = y - a.y - t * dy;
  return std::sqrt(ex * ex + ey * ey);
}

Outline polygon(std::vector<Point> points) {
  const Rect bounds = bounds_of(points);
  return {bounds, [p = std::move(points)](double x, double y) {
            double best = std::numeric_limits<double>::max();
            bool inside = false;
            for (size_t i = 0, j = p.size() - 1; i < p.size(); j = i++) {
              best = std::min(best, segment_distance(x, y, p[j], p[i]));
              if ((p[i].y > y) != (p[j].y > y) &&
                  x < (p[j].x - p[i].x) * (y - p[i].y) / (p[j].y - p[i].y) + p[i].x)
                inside = !inside;
            }
            return inside ? -best : best;
          }};
}

// Corners given in units of the radius around the origin, y down.
Outline polygon_at(const std::vector<Point>& unit, double x, double y, double radius, double turn,
                   double sx, double sy) {
  const double c = std::cos(turn), s = std::sin(turn);
  std::vector<Point> p;
  for (const Point& u : unit)
    p.push_back(
        {x + radius * (u.x * sx * c - u.y * sy * s), y + radius * (u.x * sx * s + u.y * sy * c)});
  return polygon(std::move(p));
}

// Half axes a and b; the hole has the same axes times `hole` (0: none).
Outline ellipse(double x, double y, double a, double b, double turn, double hole) {
  const double c = std::cos(turn), s = std::sin(turn);
  const double hx = std::hypot(a * c, b * s), hy = std::hypot(a * s, b * c);
  return {{x - hx, y - hy, x + hx, y + hy}, [=](double px, double py) {
            const double u = (px - x) * c + (py - y) * s, v = (py - y) * c - (px - x) * s;
            // f / |grad f| of f = |(u/a, v/b)| - 1: exact to first order at the edge.
            const auto distance = [&](double ra, double rb) {
              const double k0 = std::hypot(u / ra, v / rb);
              const double k1 = std::hypot(u / (ra * ra), v / (rb * rb));
              return k1 > 0 ? k0 * (k0 - 1) / k1 : -std::min(ra, rb);
            };
            const double outer = distance(a, b);
            return hole > 0 ? std::max(outer, -distance(a * hole, b * hole)) : outer;
          }};
}

// Smooth random values on a lattice `cell` pixels wide, in [-1, 1].
class Clouds {
 public:
  Clouds(int width, int height, double cell, Rng& rng)
      : cell_(cell), columns_(static_cast<int>(width / cell) + 2) {
    const int rows = static_cast<int>(height / cell) + 2;
    for (int i = 0; i < rows * columns_; ++i)
      values_.push_back(static_cast<float>(rng.uniform(-1, 1)));
  }
  float at(int x, int y) const {
    const auto ease = [](float t) { return t * t * (3 - 2 * t); };
    const float fx = static_cast<float>(x / cell_), fy = static_cast<float>(y / cell_);
    const int i = static_cast<int>(fx), j = static_cast<int>(fy);
    const float u = ease(fx - static_cast<float>(i)), v = ease(fy - static_cast<float>(j));
    const float* p = values_.data() + j * columns_ + i;
    const float top = p[0] + (p[1] - p[0]) * u;
    const float bottom = p[columns_] + (p[columns_ + 1] - p[columns_]) * u;
    return top + (bottom - top) * v;
  }

 private:
  double cell_;
  int columns_;
  std::vector<float> values_;
};

uint8_t to_byte(float v) { return static_cast<uint8_t>(std::clamp(v + 0.5f, 0.0f, 255.0f)); }

Color shade(Color c, double by) { return by < 0 ? mix(c, {}, -by) : mix(c, {255, 255, 255}, by); }

// Separable, five taps: enough for sigma up to 1.
void blur(Image& image, double sigma) {
  float w[3];
  for (int k = 0; k < 3; ++k) w[k] = static_cast<float>(std::exp(-k * k / (2 * sigma * sigma)));
  const float sum = w[0] + 2 * w[1] + 2 * w[2];
  for (float& v : w) v /= sum;
  const auto pass = [&](int n, int64_t step, uint8_t* line, std::vector<uint8_t>& copy) {
    for (int i = 0; i < n; ++i)
      for (int k = 0; k < 3; ++k) copy[static_cast<size_t>(i * 3 + k)] = line[i * step + k];
    const auto get = [&](int i, int k) {
      return static_cast<float>(copy[static_cast<size_t>(std::clamp(i, 0, n - 1) * 3 + k)]);
    };
    for (int i = 0; i < n; ++i)
      for (int k = 0; k < 3; ++k)
        line[i * step + k] = to_byte(w[0] * get(i, k) + w[1] * (get(i - 1, k) + get(i + 1, k)) +
                                     w[2] * (get(i - 2, k) + get(i + 2, k)));
  };
  std::vector<uint8_t> copy(static_cast<size_t>(std::max(image.width, image.height)) * 3);
  for (int y = 0; y < image.height; ++y) pass(image.width, 3, image.row(y), copy);
  for (int x = 0; x < image.width; ++x)
    pass(image.height, image.pitch(), image.pixels.data() + int64_t{3} * x, copy);
}

}  // namespace

Outline make_shape(int class_id, double x, double y, double size, Rng& rng) {
  const double r = size / 2;
  const double narrow = rng.uniform(0.78, 1);
  const double turn = rng.uniform(-kPi, kPi);
  const double tilt = rng.uniform(-kPi / 5, kPi / 5);
  switch (class_id) {
    case 0:
      return ellipse(x, y, r, r * narrow, turn, 0);
    case 1: {  // square
      const double h = std::numbers::sqrt2 / 2;
      return polygon_at({{-h, -h}, {h, -h}, {h, h}, {-h, h}}, x, y, r, tilt, 1, narrow);
    }
    case 2: {  // triangle
      const double h = std::numbers::sqrt3 / 2;
      return polygon_at({{0, -1}, {h, 0.5}, {-h, 0.5}}, x, y, r, turn, 1, narrow);
    }
    case 3: {  // star
      std::vector<Point> p;
      const double inner = rng.uniform(0.40, 0.52);
      for (int i = 0; i < 10; ++i) {
        const double angle = i * kPi / 5 - kPi / 2, radius = i % 2 ? inner : 1;
        p.push_back({radius * std::cos(angle), radius * std::sin(angle)});
      }
      return polygon_at(p, x, y, r, turn, 1, 0.5 + narrow / 2);
    }
    case 4: {  // cross
      const double a = rng.uniform(0.24, 0.36), b = std::sqrt(1 - a * a);
      return polygon_at({{-a, -b},
                         {a, -b},
                         {a, -a},
                         {b, -a},
                         {b, a},
                         {a, a},
                         {a, b},
                         {-a, b},
                         {-a, a},
                         {-b, a},
                         {-b, -a},
                         {-a, -a}},
                        x, y, r, tilt, 1, narrow);
    }
    default:  // ring
      return ellipse(x, y, r, r * narrow, turn, rng.uniform(0.5, 0.7));
  }
}

Outline make_blob(double x, double y, double size, Rng& rng) {
  constexpr int kPoints = 28;
  double amplitude[3], phase[3];
  for (int k = 0; k < 3; ++k) {
    amplitude[k] = rng.uniform(0.08, 0.26);
    phase[k] = rng.uniform(0, 2 * kPi);
  }
  std::vector<Point> p;
  for (int i = 0; i < kPoints; ++i) {
    const double angle = 2 * kPi * i / kPoints;
    double radius = 1;
    for (int k = 0; k < 3; ++k) radius += amplitude[k] * std::cos((k + 2) * angle + phase[k]);
    p.push_back({radius * std::cos(angle), radius * std::sin(angle)});
  }
  return polygon_at(p, x, y, size / 2, rng.uniform(0, 2 * kPi), 1, rng.uniform(0.3, 0.7));
}

Outline make_capsules(std::vector<Point> line, double width) {
  Rect b = bounds_of(line);
  const double half = width / 2;
  b = {b.x0 - half, b.y0 - half, b.x1 + half, b.y1 + half};
  return {b, [p = std::move(line), half](double x, double y) {
            double best = std::numeric_limits<double>::max();
            for (size_t i = 0; i + 1 < p.size(); ++i)
              best = std::min(best, segment_distance(x, y, p[i], p[i + 1]));
            return best - half;
          }};
}

Outline make_stroke(int width, int height, Rng& rng) {
  const double x = rng.uniform(0, width), y = rng.uniform(0, height);
  const double side = std::min(width, height);
  const double thick = rng.uniform(1, 1 + side / 80);
  std::vector<Point> line;
  double angle = rng.uniform(0, 2 * kPi);
  switch (rng.below(3)) {
    case 0: {  // a line
      const double length = rng.uniform(0.2, 1) * side;
      line = {{x, y}, {x + length * std::cos(angle), y + length * std::sin(angle)}};
      break;
    }
    case 1: {  // an arc, too short to be taken for a ring
      const double radius = rng.uniform(0.06, 0.4) * side, span = rng.uniform(0.3, 0.9) * kPi;
      for (int i = 0; i <= 14; ++i) {
        const double a = angle + span * i / 14;
        line.push_back({x + radius * std::cos(a), y + radius * std::sin(a)});
      }
      break;
    }
    default: {  // a scribble
      Point p{x, y};
      double bend = 0;
      for (int i = 0; i < 24; ++i) {
        line.push_back(p);
        bend = std::clamp(bend + rng.uniform(-0.35, 0.35), -0.7, 0.7);
        angle += bend;
        p = {p.x + side * 0.03 * std::cos(angle), p.y + side * 0.03 * std::sin(angle)};
      }
    }
  }
  return make_capsules(std::move(line), thick);
}

Mask rasterize(const Outline& outline) {
  const Rect& b = outline.bounds;
  Mask m;
  m.x0 = static_cast<int>(std::floor(b.x0)) - 1;
  m.y0 = static_cast<int>(std::floor(b.y0)) - 1;
  m.width = static_cast<int>(std::ceil(b.x1)) + 1 - m.x0;
  m.height = static_cast<int>(std::ceil(b.y1)) + 1 - m.y0;
  m.coverage.reserve(static_cast<size_t>(m.width) * static_cast<size_t>(m.height));
  for (int j = 0; j < m.height; ++j)
    for (int i = 0; i < m.width; ++i) {
      const double d = outline.distance(m.x0 + i + 0.5, m.y0 + j + 0.5);
      m.coverage.push_back(static_cast<float>(std::clamp(0.5 - d, 0.0, 1.0)));
      m.area += d < 0;
    }
  return m;
}

Fill make_fill(Color base, double size, Rng& rng) {
  const double angle = rng.uniform(0, 2 * kPi), c = std::cos(angle), s = std::sin(angle);
  const double other = rng.uniform(0.15, 0.4) * (rng.below(2) ? 1 : -1);
  const Color second = shade(base, other);
  const double period = rng.uniform(0.16, 0.3) * size;
  const int64_t kind = rng.below(6);
  const double rim = rng.below(3) == 0 ? std::max(1.0, rng.uniform(0.03, 0.06) * size) : 0;
  const Color rim_color = shade(base, -rng.uniform(0.3, 0.6));
  return [=](double x, double y, double distance) {
    if (distance > -rim) return rim_color;
    const double u = x * c + y * s, v = y * c - x * s;
    if (kind <= 1) return base;
    if (kind <= 3) {
      const double t = u / (2 * size);  // a slow gradient, independent of the shape's position
      return mix(base, second, 0.5 + 0.5 * std::sin(2 * kPi * t));
    }
    const double wave = kind == 4 ? std::sin(2 * kPi * u / period)
                                  : std::sin(2 * kPi * u / period) * std::sin(2 * kPi * v / period);
    return mix(base, second, std::clamp(0.5 + wave * period * 0.5, 0.0, 1.0));
  };
}

Color contrasting_color(Color ground, Rng& rng) {
  Color best;
  int best_gap = -1;
  for (int i = 0; i < 12; ++i) {
    const Color c = from_hsv(rng.uniform(), rng.uniform(0.15, 0.95), rng.uniform(0.2, 1));
    const int gap = std::abs(c.r - ground.r) + std::abs(c.g - ground.g) + std::abs(c.b - ground.b);
    if (gap > 130) return c;
    if (gap > best_gap) {
      best_gap = gap;
      best = c;
    }
  }
  return best;
}

void paint(Image& image, const Outline& outline, const Mask& mask, const Fill& fill, double alpha) {
  mask.each([&](int x, int y, float coverage) {
    if (coverage > 0)
      blend(image, x, y, fill(x + 0.5, y + 0.5, outline.distance(x + 0.5, y + 0.5)),
            coverage * static_cast<float>(alpha));
  });
}

void paint_shadow(Image& image, const Outline& outline, double dx, double dy, double softness,
                  double strength) {
  const Rect& b = outline.bounds;
  const int x0 = std::max(0, static_cast<int>(b.x0 + dx - softness));
  const int y0 = std::max(0, static_cast<int>(b.y0 + dy - softness));
  const int x1 = std::min(image.width, static_cast<int>(b.x1 + dx + softness) + 1);
  const int y1 = std::min(image.height, static_cast<int>(b.y1 + dy + softness) + 1);
  for (int y = y0; y < y1; ++y)
    for (int x = x0; x < x1; ++x) {
      const double d = outline.distance(x + 0.5 - dx, y + 0.5 - dy);
      const double t = std::clamp(0.5 - d / (2 * softness), 0.0, 1.0);
      blend(image, x, y, {}, static_cast<float>(strength * t * t * (3 - 2 * t)));
    }
}

Color mean_color(const Image& image, const Mask& mask) {
  int64_t sum[3] = {0, 0, 0}, n = 0;
  mask.each([&](int x, int y, float coverage) {
    if (coverage < 0.5f || x < 0 || y < 0 || x >= image.width || y >= image.height) return;
    for (int k = 0; k < 3; ++k) sum[k] += image.row(y)[x * 3 + k];
    ++n;
  });
  if (n == 0) return {};
  return {static_cast<uint8_t>(sum[0] / n), static_cast<uint8_t>(sum[1] / n),
          static_cast<uint8_t>(sum[2] / n)};
}

Image make_ground(int width, int height, Rng& rng) {
  Image image = make_image(width, height);
  const double side = std::min(width, height);
  const double hue = rng.uniform();
  const Color a = from_hsv(hue, rng.uniform(0.05, 0.5), rng.uniform(0.25, 0.95));
  const Color b = from_hsv(hue + rng.uniform(-0.12, 0.12), rng.uniform(0.05, 0.5),
                           std::clamp(luminance(a) + rng.uniform(-0.3, 0.3), 0.15, 0.95));
  const double angle = rng.uniform(0, 2 * kPi);
  const float c = static_cast<float>(std::cos(angle)), s = static_cast<float>(std::sin(angle));
  const Clouds large(width, height, side / 3, rng), fine(width, height, side / 16, rng);
  const float large_by = static_cast<float>(rng.uniform(6, 26));
  const float fine_by = static_cast<float>(rng.uniform(2, 14));
  const int64_t pattern = rng.below(4);  // 0, 1: none; 2: stripes; 3: checks
  const float pattern_by = static_cast<float>(rng.uniform(3, 11));
  const float wave = static_cast<float>(2 * kPi / rng.uniform(side / 24, side / 7));
  const float from[3] = {float(a.r), float(a.g), float(a.b)};
  const float to[3] = {float(b.r), float(b.g), float(b.b)};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const float u = static_cast<float>(x) * c + static_cast<float>(y) * s;
      const float v = static_cast<float>(y) * c - static_cast<float>(x) * s;
      const float t = std::clamp(
          0.5f + 0.7f *
                     (u - 0.5f * (static_cast<float>(width) * c + static_cast<float>(height) * s)) /
                     static_cast<float>(side),
          0.0f, 1.0f);
      float add = large_by * large.at(x, y) + fine_by * fine.at(x, y);
      if (pattern == 2) add += pattern_by * std::sin(u * wave);
      if (pattern == 3) add += std::sin(u * wave) * std::sin(v * wave) > 0 ? pattern_by : 0;
      uint8_t* p = image.row(y) + x * 3;
      for (int k = 0; k < 3; ++k) p[k] = to_byte(from[k] + (to[k] - from[k]) * t + add);
    }
  return image;
}

void finish(Image& image, Rng& rng) {
  const double sigma = rng.uniform(0, 0.95);
  if (sigma > 0.3) blur(image, sigma);
  const float dim = static_cast<float>(rng.uniform(0, 0.28));
  const float gain = static_cast<float>(rng.uniform(0.86, 1.1));
  // Sum of two uniform 10-bit numbers: standard deviation 417.7, mean 1023.
  const float grain = static_cast<float>(rng.uniform(1, 6) / 417.7);
  const float cx = static_cast<float>(image.width) / 2, cy = static_cast<float>(image.height) / 2;
  const float far = cx * cx + cy * cy;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) {
      const float dx = static_cast<float>(x) - cx, dy = static_cast<float>(y) - cy;
      const float light = gain * (1 - dim * (dx * dx + dy * dy) / far);
      const uint64_t bits = rng.next();
      uint8_t* p = image.row(y) + x * 3;
      for (int k = 0; k < 3; ++k) {
        const auto noise =
            static_cast<float>((bits >> (20 * k) & 1023) + (bits >> (20 * k + 10) & 1023)) - 1023;
        p[k] = to_byte(static_cast<float>(p[k]) * light + grain * noise);
      }
    }
}

}  // namespace sextant::data::shapes
