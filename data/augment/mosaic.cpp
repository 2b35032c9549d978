// SPDX-License-Identifier: Apache-2.0
#include "data/augment/mosaic.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace sextant::data {

MosaicPlaces mosaic_places(const MosaicTiles& tiles, int xc, int yc) {
  MosaicPlaces places;
  for (size_t k = 0; k < 4; ++k) {
    const Image* image = tiles[k].image;
    check(image != nullptr && !image->empty(), "mosaic: tile {} is empty", k);
    places[k] = {image, k % 2 == 0 ? xc - image->width : xc, k < 2 ? yc - image->height : yc};
  }
  return places;
}

std::vector<PixelLabel> mosaic_labels(const MosaicTiles& tiles, const MosaicPlaces& places,
                                      int width, int height) {
  std::vector<PixelLabel> labels;
  for (size_t k = 0; k < 4; ++k) {
    if (tiles[k].labels == nullptr) continue;
    const auto w = static_cast<float>(places[k].image->width);
    const auto h = static_cast<float>(places[k].image->height);
    const auto x = [&](float v) {
      return std::clamp(w * v + static_cast<float>(places[k].left), 0.0f,
                        static_cast<float>(2 * width));
    };
    const auto y = [&](float v) {
      return std::clamp(h * v + static_cast<float>(places[k].top), 0.0f,
                        static_cast<float>(2 * height));
    };
    for (const Label& l : *tiles[k].labels)
      if (!l.crowd)
        labels.push_back({l.category, x(l.cx - l.w / 2), y(l.cy - l.h / 2), x(l.cx + l.w / 2),
                          y(l.cy + l.h / 2)});
  }
  return labels;
}

void paint_canvas(std::span<const CanvasTile> tiles, int width, int height, const Window& window,
                  Image& canvas) {
  canvas.width = width;
  canvas.height = height;
  canvas.pixels.resize(static_cast<size_t>(canvas.pitch() * height));
  for (int y = window.top; y < window.bottom; ++y)
    std::memset(canvas.row(y) + 3 * window.left, kPadValue,
                static_cast<size_t>(3 * (window.right - window.left)));
  for (const CanvasTile& tile : tiles) {
    const int x1 = std::max(tile.left, window.left);
    const int x2 = std::min(tile.left + tile.image->width, window.right);
    const int y1 = std::max(tile.top, window.top);
    const int y2 = std::min(tile.top + tile.image->height, window.bottom);
    if (x2 <= x1) continue;
    for (int y = y1; y < y2; ++y)
      std::memcpy(canvas.row(y) + 3 * x1, tile.image->row(y - tile.top) + 3 * (x1 - tile.left),
                  static_cast<size_t>(3 * (x2 - x1)));
  }
}

}  // namespace sextant::data
