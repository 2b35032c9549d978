// SPDX-License-Identifier: Apache-2.0
// Small images for the tests of this folder.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/file.h"
#include "core/rng.h"
#include "core/tensor.h"
#include "data/augment/mosaic.h"
#include "data/image/image.h"

namespace sextant::test {

// A fixture's picture, [H,W,3] u8 in BGR order, as RGB.
inline data::Image image_from_bgr(const Tensor& t) {
  data::Image image = data::make_image(static_cast<int>(t.dim(1)), static_cast<int>(t.dim(0)));
  const uint8_t* p = t.data<uint8_t>();
  for (int64_t i = 0; i < t.numel(); i += 3)
    for (int64_t c = 0; c < 3; ++c) image.pixels[static_cast<size_t>(i + c)] = p[i + 2 - c];
  return image;
}

// Smooth enough to be told apart after resizing, different at every pixel and seed.
inline data::Image pattern(int width, int height, uint64_t seed) {
  data::Image image = data::make_image(width, height);
  Rng rng(seed);
  const auto base = static_cast<int>(rng.below(100));
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < 3 * width; ++x)
      image.row(y)[x] = static_cast<uint8_t>(base + (x * 5 + y * 3) % 120 + rng.below(30));
  return image;
}

// The largest difference of two pictures; 256 when the sizes differ.
inline int largest_difference(const data::Image& a, const data::Image& b) {
  if (a.width != b.width || a.height != b.height || a.pixels.size() != b.pixels.size()) return 256;
  int worst = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i)
    worst = std::max(worst, std::abs(int{a.pixels[i]} - int{b.pixels[i]}));
  return worst;
}

// A mosaic's canvas of 2 * width x 2 * height and its boxes.
struct Mosaic {
  data::Image canvas;
  std::vector<data::PixelLabel> labels;
};
inline Mosaic make_mosaic(const data::MosaicTiles& tiles, int width, int height, int xc, int yc) {
  const auto places = data::mosaic_places(tiles, xc, yc);
  Mosaic m{{}, data::mosaic_labels(tiles, places, width, height)};
  data::paint_canvas(places, 2 * width, 2 * height, {0, 0, 2 * width, 2 * height}, m.canvas);
  return m;
}

inline void write_file(const std::filesystem::path& path, std::string_view text) {
  write_atomically(path, text);
}

inline std::string_view as_text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace sextant::test
