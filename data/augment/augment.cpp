// SPDX-License-Identifier: Apache-2.0
#include "data/augment/augment.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "data/image/letterbox.h"
#include "data/image/resize.h"
#include "kernels/math/image.h"

namespace sextant::data {
namespace {

AffineRanges ranges_of(const AugmentConfig& c) {
  return {c.degrees, c.translate, c.scale, c.shear};
}

// Draws the pictures of one sample.
struct Planner {
  const SampleSource& source;
  ImageSize size;
  const AugmentConfig& config;
  Rng& rng;
  AugmentPlan& plan;

  void mosaic(int64_t index) const;
  void single(int64_t index) const;
  void warp(AugmentPlan::Picture picture, const std::vector<PixelLabel>& labels) const;
};

void Planner::warp(AugmentPlan::Picture picture, const std::vector<PixelLabel>& labels) const {
  const AffineDraws draws = draw_affine(ranges_of(config), rng);
  picture.matrix =
      affine_matrix(draws, picture.canvas_width, picture.canvas_height, size.width, size.height);
  const auto kept = transform_labels(labels, picture.matrix, draws.scale, size.width, size.height);
  plan.labels.insert(plan.labels.end(), kept.begin(), kept.end());
  plan.pictures.push_back(std::move(picture));
}

void Planner::mosaic(int64_t index) const {
  std::array<int64_t, 4> indices{index, 0, 0, 0};
  for (size_t k = 1; k < 4; ++k) indices[k] = rng.below(source.count);
  for (size_t k = 3; k > 0; --k)
    std::swap(indices[k], indices[static_cast<size_t>(rng.below(static_cast<int64_t>(k) + 1))]);
  const int yc = static_cast<int>(rng.uniform(size.height / 2, 3 * size.height / 2));
  const int xc = static_cast<int>(rng.uniform(size.width / 2, 3 * size.width / 2));
  std::array<LoadedSample, 4> samples;
  MosaicTiles tiles;
  for (size_t k = 0; k < 4; ++k) {
    samples[k] = source.load(indices[k]);
    tiles[k] = {samples[k].image.get(), samples[k].labels};
  }
  const auto places = mosaic_places(tiles, xc, yc);
  AugmentPlan::Picture picture{{}, 2 * size.width, 2 * size.height, {}};
  for (size_t k = 0; k < 4; ++k)
    picture.tiles.push_back({samples[k].image, samples[k].index, places[k].left, places[k].top});
  warp(std::move(picture), mosaic_labels(tiles, places, size.width, size.height));
}

void Planner::single(int64_t index) const {
  LoadedSample sample = source.load(index);
  const LetterboxGeometry g =
      letterbox_geometry(sample.image->width, sample.image->height,
                         {size.width, size.height, true, kPadValue, source.border});
  if (g.resized_width != g.image_width || g.resized_height != g.image_height) {
    sample.image = std::make_shared<const Image>(
        resize_bilinear(*sample.image, g.resized_width, g.resized_height));
    sample.index = -1;
  }
  warp({{{sample.image, sample.index, g.left, g.top}}, size.width, size.height, {}},
       canvas_labels(*sample.labels, g));
}

void paint_picture(const AugmentPlan::Picture& picture, ImageSize size, Image& canvas,
                   uint8_t* out) {
  std::vector<CanvasTile> tiles;
  for (const auto& t : picture.tiles) tiles.push_back({t.image.get(), t.left, t.top});
  const int width = picture.canvas_width, height = picture.canvas_height;
  paint_canvas(tiles, width, height,
               seen_through(picture.matrix, size.width, size.height, width, height), canvas);
  warp_affine_into(canvas, picture.matrix, size.width, size.height, kPadValue, out);
}

}  // namespace

void mixup(uint8_t* image, const uint8_t* other, int64_t n, double ratio) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) image[i] = kernels::image::mixed(image[i], other[i], ratio);
}

void flip_left_right(uint8_t* image, int width, int height) {
  for (int y = 0; y < height; ++y) {
    uint8_t* a = image + int64_t{3} * width * y;
    uint8_t* b = a + int64_t{3} * (width - 1);
    for (; a < b; a += 3, b -= 3) std::swap_ranges(a, a + 3, b);
  }
}

void flip_up_down(uint8_t* image, int width, int height) {
  const int64_t pitch = int64_t{3} * width;
  for (int y = 0; y < height / 2; ++y)
    std::swap_ranges(image + y * pitch, image + (y + 1) * pitch, image + (height - 1 - y) * pitch);
}

void flip_left_right(std::vector<PixelLabel>& labels, int width) {
  const auto w = static_cast<float>(width);
  for (PixelLabel& l : labels) l.x1 = w - std::exchange(l.x2, w - l.x1);
}

void flip_up_down(std::vector<PixelLabel>& labels, int height) {
  const auto h = static_cast<float>(height);
  for (PixelLabel& l : labels) l.y1 = h - std::exchange(l.y2, h - l.y1);
}

std::vector<PixelLabel> canvas_labels(const std::vector<Label>& labels,
                                      const LetterboxGeometry& g) {
  std::vector<PixelLabel> out;
  const auto w = static_cast<float>(g.image_width);
  const auto h = static_cast<float>(g.image_height);
  for (const Label& l : labels) {
    if (l.crowd) continue;
    const Box b = g.to_canvas(
        {w * (l.cx - l.w / 2), h * (l.cy - l.h / 2), w * (l.cx + l.w / 2), h * (l.cy + l.h / 2)});
    out.push_back({l.category, b[0], b[1], b[2], b[3]});
  }
  return out;
}

double draw_mixup_ratio(Rng& rng) {
  // Beta(32, 32) = X / (X + Y) with X, Y of the gamma distribution of 32: sums of 32 exponentials.
  double x = 0;
  double y = 0;
  for (int k = 0; k < 32; ++k) {
    x -= std::log(1.0 - rng.uniform());
    y -= std::log(1.0 - rng.uniform());
  }
  return x / (x + y);
}

AugmentPlan plan_augmentation(const SampleSource& source, int64_t index, ImageSize size,
                              const AugmentConfig& config, bool mosaic_on, Rng& rng) {
  check(index >= 0 && index < source.count, "augment: sample {} is out of range, there are {}",
        index, source.count);
  AugmentPlan plan;
  const Planner planner{source, size, config, rng, plan};
  if (mosaic_on && rng.uniform() < config.mosaic) {
    planner.mosaic(index);
    if (rng.uniform() < config.mixup) {
      planner.mosaic(rng.below(source.count));
      plan.mix_ratio = draw_mixup_ratio(rng);
    }
  } else {
    planner.single(index);
  }
  if (config.hsv_h != 0 || config.hsv_s != 0 || config.hsv_v != 0) {
    const double h = 1.0 + rng.uniform(-1.0, 1.0) * config.hsv_h;
    const double s = 1.0 + rng.uniform(-1.0, 1.0) * config.hsv_s;
    const double v = 1.0 + rng.uniform(-1.0, 1.0) * config.hsv_v;
    plan.colors = hsv_tables(h, s, v);
  }
  plan.flip_up_down = rng.uniform() < config.flipud;
  if (plan.flip_up_down) flip_up_down(plan.labels, size.height);
  plan.flip_left_right = rng.uniform() < config.fliplr;
  if (plan.flip_left_right) flip_left_right(plan.labels, size.width);
  return plan;
}

void paint(const AugmentPlan& plan, ImageSize size, Image& canvas, uint8_t* out) {
  const int64_t pixels = int64_t{size.width} * size.height;
  paint_picture(plan.pictures[0], size, canvas, out);
  if (plan.pictures.size() > 1) {
    std::vector<uint8_t> other(static_cast<size_t>(3 * pixels));
    paint_picture(plan.pictures[1], size, canvas, other.data());
    mixup(out, other.data(), 3 * pixels, plan.mix_ratio);
  }
  if (plan.colors) apply_hsv(*plan.colors, out, pixels);
  if (plan.flip_up_down) flip_up_down(out, size.width, size.height);
  if (plan.flip_left_right) flip_left_right(out, size.width, size.height);
}

}  // namespace sextant::data
