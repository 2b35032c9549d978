// SPDX-License-Identifier: Apache-2.0
#include "data/augment/affine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "core/error.h"
#include "kernels/math/image.h"

namespace sextant::data {
namespace {

using Matrix3 = std::array<std::array<double, 3>, 3>;

constexpr Matrix3 kIdentity{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};

Matrix3 product(const Matrix3& a, const Matrix3& b) {
  Matrix3 c{};
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < 3; ++j)
      for (size_t k = 0; k < 3; ++k) c[i][j] += a[i][k] * b[k][j];
  return c;
}

double radians(double degrees) { return degrees * std::numbers::pi / 180.0; }

}  // namespace

AffineMatrix inverse(const AffineMatrix& m) {
  const double determinant = m[0] * m[4] - m[1] * m[3];
  const double d = determinant != 0 ? 1.0 / determinant : 0.0;
  const double a = m[4] * d;
  const double b = m[1] * -d;
  const double c = m[3] * -d;
  const double e = m[0] * d;
  return {a, b, -a * m[2] - b * m[5], c, e, -c * m[2] - e * m[5]};
}

AffineDraws draw_affine(const AffineRanges& ranges, Rng& rng) {
  AffineDraws d;
  d.angle = rng.uniform(-ranges.degrees, ranges.degrees);
  d.scale = rng.uniform(1.0 - ranges.scale, 1.0 + ranges.scale);
  d.shear_x = rng.uniform(-ranges.shear, ranges.shear);
  d.shear_y = rng.uniform(-ranges.shear, ranges.shear);
  d.translate_x = rng.uniform(0.5 - ranges.translate, 0.5 + ranges.translate);
  d.translate_y = rng.uniform(0.5 - ranges.translate, 0.5 + ranges.translate);
  return d;
}

AffineMatrix affine_matrix(const AffineDraws& draws, int source_width, int source_height, int width,
                           int height) {
  Matrix3 centre = kIdentity;
  centre[0][2] = -source_width / 2.0;
  centre[1][2] = -source_height / 2.0;
  Matrix3 rotate = kIdentity;
  const double cosine = std::cos(radians(draws.angle)) * draws.scale;
  const double sine = std::sin(radians(draws.angle)) * draws.scale;
  rotate[0][0] = cosine;
  rotate[0][1] = sine;
  rotate[1][0] = -sine;
  rotate[1][1] = cosine;
  Matrix3 shear = kIdentity;
  shear[0][1] = std::tan(radians(draws.shear_x));
  shear[1][0] = std::tan(radians(draws.shear_y));
  Matrix3 translate = kIdentity;
  translate[0][2] = draws.translate_x * width;
  translate[1][2] = draws.translate_y * height;
  const Matrix3 m = product(product(product(translate, shear), rotate), centre);
  return {m[0][0], m[0][1], m[0][2], m[1][0], m[1][1], m[1][2]};
}

namespace {

// Along one axis, for a map that keeps rows and columns: where a result's first neighbour is and the
// weight of the second, in 1/32.
struct AxisTap {
  int at, second;
};

// Neighbours beyond the border are all alike: `at` is kept in [-2, size].
AxisTap axis_tap(int64_t fine, int size) {
  using namespace kernels::image;
  const WarpTap t = warp_tap(fine, 0);
  return {std::clamp(t.x, -2, size), t.w01 / kWarpSteps};
}

// For m[1] = m[3] = 0: the weights of the four neighbours are products of one along x and one along
// y, so two rows are blended first, as a whole, and then neighbours in that row. The integers are
// those of the general form.
void warp_straight(const Image& source, const AffineMatrix& m, int width, int height,
                   uint8_t border, uint8_t* out) {
  using namespace kernels::image;
  std::vector<AxisTap> columns(static_cast<size_t>(width));
  int first = source.width, last = -1;  // of the source, that are looked at
  for (size_t x = 0; x < columns.size(); ++x) {
    columns[x] =
        axis_tap(to_fine(m[2]) + kHalfStep + to_fine(m[0] * static_cast<double>(x)), source.width);
    first = std::min(first, std::max(columns[x].at, 0));
    last = std::max(last, std::min(columns[x].at + 1, source.width - 1));
  }
  // Columns -2 to width + 1; what lies beside the source stays as it is.
  std::vector<uint16_t> blended(3 * static_cast<size_t>(source.width + 4),
                                static_cast<uint16_t>(border * kWarpSteps));
  uint16_t* const row = blended.data() + 6;
  const std::vector<uint8_t> beyond(static_cast<size_t>(source.pitch()), border);
  const auto source_row = [&](int y) {
    return y >= 0 && y < source.height ? source.row(y) : beyond.data();
  };
  for (int y = 0; y < height; ++y) {
    const AxisTap t = axis_tap(to_fine(m[4] * y + m[5]) + kHalfStep, source.height);
    const uint8_t* p = source_row(t.at);
    const uint8_t* q = source_row(t.at + 1);
    const int weight_q = t.second, weight_p = kWarpSteps - weight_q;
#pragma omp simd
    for (int i = 3 * first; i < 3 * (last + 1); ++i)
      row[i] = static_cast<uint16_t>(p[i] * weight_p + q[i] * weight_q);
    for (const AxisTap& column : columns) {
      const uint16_t* v = row + 3 * column.at;
      const int right = column.second, left = kWarpSteps - right;
      for (int c = 0; c < 3; ++c)
        out[c] = static_cast<uint8_t>((v[c] * left + v[c + 3] * right + kFine / 2) >> 10);
      out += 3;
    }
  }
}

}  // namespace

void warp_affine_into(const Image& source, const AffineMatrix& matrix, int width, int height,
                      uint8_t border, uint8_t* out) {
  using namespace kernels::image;
  check(!source.empty(), "affine: the image is empty");
  const AffineMatrix m = inverse(matrix);
  if (m[1] == 0 && m[3] == 0) return warp_straight(source, m, width, height, border, out);
  const int64_t pitch = source.pitch();
  const uint8_t* pixels = source.pixels.data();
  const auto columns = static_cast<size_t>(width);
  std::vector<int64_t> step_x(columns);
  std::vector<int64_t> step_y(columns);
  for (size_t x = 0; x < columns; ++x) {
    step_x[x] = to_fine(m[0] * static_cast<double>(x));
    step_y[x] = to_fine(m[3] * static_cast<double>(x));
  }
  for (int y = 0; y < height; ++y) {
    const int64_t base_x = to_fine(m[1] * y + m[2]) + kHalfStep;
    const int64_t base_y = to_fine(m[4] * y + m[5]) + kHalfStep;
    for (size_t x = 0; x < columns; ++x, out += 3) {
      const WarpTap t = warp_tap(base_x + step_x[x], base_y + step_y[x]);
      if (t.x >= 0 && t.y >= 0 && t.x + 1 < source.width && t.y + 1 < source.height) {
        const uint8_t* p = pixels + t.y * pitch + int64_t{3} * t.x;
        const uint8_t* q = p + pitch;
        for (int c = 0; c < 3; ++c) out[c] = warped(t, p[c], p[c + 3], q[c], q[c + 3]);
      } else if (t.x < -1 || t.y < -1 || t.x >= source.width || t.y >= source.height) {
        std::memset(out, border, 3);
      } else {
        auto at = [&](int px, int py, int c) -> int {
          const bool inside = px >= 0 && py >= 0 && px < source.width && py < source.height;
          return inside ? pixels[py * pitch + 3 * px + c] : border;
        };
        for (int c = 0; c < 3; ++c)
          out[c] = warped(t, at(t.x, t.y, c), at(t.x + 1, t.y, c), at(t.x, t.y + 1, c),
                          at(t.x + 1, t.y + 1, c));
      }
    }
  }
}

Image warp_affine(const Image& source, const AffineMatrix& matrix, int width, int height,
                  uint8_t border) {
  Image out = make_image(width, height);
  warp_affine_into(source, matrix, width, height, border, out.pixels.data());
  return out;
}

Window seen_through(const AffineMatrix& matrix, int width, int height, int source_width,
                    int source_height) {
  const AffineMatrix m = inverse(matrix);
  double x0 = source_width, y0 = source_height, x1 = 0, y1 = 0;
  for (const double x : {0.0, static_cast<double>(width)})
    for (const double y : {0.0, static_cast<double>(height)}) {
      const double sx = m[0] * x + m[1] * y + m[2], sy = m[3] * x + m[4] * y + m[5];
      x0 = std::min(x0, sx);
      y0 = std::min(y0, sy);
      x1 = std::max(x1, sx);
      y1 = std::max(y1, sy);
    }
  const auto within = [](double v, int size) {
    return static_cast<int>(std::clamp(v, 0.0, static_cast<double>(size)));
  };
  constexpr double kNeighbours = 2;  // of a coordinate that is rounded
  return {within(x0 - kNeighbours, source_width), within(y0 - kNeighbours, source_height),
          within(x1 + kNeighbours, source_width), within(y1 + kNeighbours, source_height)};
}

bool box_candidate(const std::array<double, 4>& before, const std::array<double, 4>& after,
                   const BoxThresholds& thresholds) {
  constexpr double kEps = 1e-16;
  const double w1 = before[2] - before[0];
  const double h1 = before[3] - before[1];
  const double w2 = after[2] - after[0];
  const double h2 = after[3] - after[1];
  const double aspect = std::max(w2 / (h2 + kEps), h2 / (w2 + kEps));
  return w2 > thresholds.side && h2 > thresholds.side &&
         w2 * h2 / (w1 * h1 + kEps) > thresholds.area && aspect < thresholds.aspect;
}

std::vector<PixelLabel> transform_labels(const std::vector<PixelLabel>& labels,
                                         const AffineMatrix& m, double scale, int width,
                                         int height) {
  std::vector<PixelLabel> kept;
  for (const PixelLabel& l : labels) {
    std::array<double, 4> xs{};
    std::array<double, 4> ys{};
    for (size_t corner = 0; corner < 4; ++corner) {
      const double x = corner & 1 ? l.x2 : l.x1;
      const double y = corner & 2 ? l.y2 : l.y1;
      xs[corner] = m[0] * x + m[1] * y + m[2];
      ys[corner] = m[3] * x + m[4] * y + m[5];
    }
    const std::array<double, 4> after{
        std::clamp(std::ranges::min(xs), 0.0, static_cast<double>(width)),
        std::clamp(std::ranges::min(ys), 0.0, static_cast<double>(height)),
        std::clamp(std::ranges::max(xs), 0.0, static_cast<double>(width)),
        std::clamp(std::ranges::max(ys), 0.0, static_cast<double>(height))};
    const std::array<double, 4> before{l.x1 * scale, l.y1 * scale, l.x2 * scale, l.y2 * scale};
    if (!box_candidate(before, after)) continue;
    kept.push_back({l.category, static_cast<float>(after[0]), static_cast<float>(after[1]),
                    static_cast<float>(after[2]), static_cast<float>(after[3])});
  }
  return kept;
}

}  // namespace sextant::data
