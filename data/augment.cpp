#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "data/hsv.h"
#include "data/letterbox.h"
#include "kernels/image_math.h"

namespace sextant::data {
namespace {

constexpr uint8_t kPad = 114;

AffineRanges ranges_of(const AugmentConfig& c) {
  return {c.degrees, c.translate, c.scale, c.shear};
}

struct Picture {
  const SampleSource& source;
  int size;
  const AugmentConfig& config;
  Rng& rng;
  AugmentBuffers& buffers;

  // Both write size x size pixels at `out` and return the boxes in it.
  std::vector<PixelLabel> mosaic(int64_t index, uint8_t* out) const;
  std::vector<PixelLabel> single(int64_t index, uint8_t* out) const;
  std::vector<PixelLabel> warp(const Image& image, const std::vector<PixelLabel>& labels,
                               uint8_t* out) const;
};

std::vector<PixelLabel> Picture::warp(const Image& image, const std::vector<PixelLabel>& labels,
                                      uint8_t* out) const {
  const AffineDraws draws = draw_affine(ranges_of(config), rng);
  const AffineMatrix matrix = affine_matrix(draws, image.width, image.height, size, size);
  warp_affine_into(image, matrix, size, size, kPad, out);
  return transform_labels(labels, matrix, draws.scale, size, size);
}

std::vector<PixelLabel> Picture::mosaic(int64_t index, uint8_t* out) const {
  std::array<int64_t, 4> indices{index, 0, 0, 0};
  for (size_t k = 1; k < 4; ++k) indices[k] = rng.below(source.count);
  for (size_t k = 3; k > 0; --k)
    std::swap(indices[k], indices[static_cast<size_t>(rng.below(static_cast<int64_t>(k) + 1))]);
  const int yc = static_cast<int>(rng.uniform(size / 2, 3 * size / 2));
  const int xc = static_cast<int>(rng.uniform(size / 2, 3 * size / 2));
  std::array<LoadedSample, 4> samples;
  std::array<MosaicTile, 4> tiles;
  for (size_t k = 0; k < 4; ++k) {
    samples[k] = source.load(indices[k]);
    tiles[k] = {samples[k].image.get(), samples[k].labels};
  }
  make_mosaic(tiles, size, size, xc, yc, buffers.mosaic);
  return warp(buffers.mosaic.canvas, buffers.mosaic.labels, out);
}

std::vector<PixelLabel> Picture::single(int64_t index, uint8_t* out) const {
  const LoadedSample sample = source.load(index);
  const Image& image = *sample.image;
  const LetterboxGeometry g =
      letterbox_geometry(image.width, image.height, {size, size, true, kPad, source.border});
  Image& canvas = buffers.image;
  canvas.width = size;
  canvas.height = size;
  canvas.pixels.resize(static_cast<size_t>(canvas.pitch() * size));
  letterbox_into(image, g, kPad, canvas.pixels.data());
  std::vector<PixelLabel> labels;
  const auto w = static_cast<float>(image.width);
  const auto h = static_cast<float>(image.height);
  for (const Label& l : *sample.labels) {
    if (l.crowd) continue;
    const Box b = g.to_canvas(
        {w * (l.cx - l.w / 2), h * (l.cy - l.h / 2), w * (l.cx + l.w / 2), h * (l.cy + l.h / 2)});
    labels.push_back({l.category, b[0], b[1], b[2], b[3]});
  }
  return warp(canvas, labels, out);
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

std::vector<PixelLabel> augment_sample(const SampleSource& source, int64_t index, int size,
                                       const AugmentConfig& config, bool mosaic_on, Rng& rng,
                                       AugmentBuffers& buffers, uint8_t* out) {
  check(index >= 0 && index < source.count, "augment: sample {} of {}", index, source.count);
  const int64_t pixels = int64_t{size} * size;
  const Picture picture{source, size, config, rng, buffers};
  std::vector<PixelLabel> labels;
  if (mosaic_on && rng.uniform() < config.mosaic) {
    labels = picture.mosaic(index, out);
    if (rng.uniform() < config.mixup) {
      std::vector<uint8_t> other(static_cast<size_t>(3 * pixels));
      const auto more = picture.mosaic(rng.below(source.count), other.data());
      mixup(out, other.data(), 3 * pixels, draw_mixup_ratio(rng));
      labels.insert(labels.end(), more.begin(), more.end());
    }
  } else {
    labels = picture.single(index, out);
  }
  if (config.hsv_h != 0 || config.hsv_s != 0 || config.hsv_v != 0) {
    const double h = 1.0 + rng.uniform(-1.0, 1.0) * config.hsv_h;
    const double s = 1.0 + rng.uniform(-1.0, 1.0) * config.hsv_s;
    const double v = 1.0 + rng.uniform(-1.0, 1.0) * config.hsv_v;
    apply_hsv(hsv_tables(h, s, v), out, pixels);
  }
  if (rng.uniform() < config.flipud) {
    flip_up_down(out, size, size);
    flip_up_down(labels, size);
  }
  if (rng.uniform() < config.fliplr) {
    flip_left_right(out, size, size);
    flip_left_right(labels, size);
  }
  return labels;
}

}  // namespace sextant::data
