#include "data/mosaic.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace sextant::data {

void make_mosaic(const std::array<MosaicTile, 4>& tiles, int width, int height, int xc, int yc,
                 Mosaic& mosaic) {
  constexpr uint8_t kPad = 114;
  const int cw = 2 * width;
  const int ch = 2 * height;
  Image& canvas = mosaic.canvas;
  canvas.width = cw;
  canvas.height = ch;
  canvas.pixels.assign(static_cast<size_t>(canvas.pitch() * ch), kPad);
  mosaic.labels.clear();
  for (size_t k = 0; k < tiles.size(); ++k) {
    check(tiles[k].image != nullptr && !tiles[k].image->empty(), "mosaic: tile {} is empty", k);
    const Image& tile = *tiles[k].image;
    // Where the tile's upper left corner lies on the canvas.
    const int left = k % 2 == 0 ? xc - tile.width : xc;
    const int top = k < 2 ? yc - tile.height : yc;
    const int x1 = std::max(left, 0);
    const int x2 = std::min(left + tile.width, cw);
    const int y1 = std::max(top, 0);
    const int y2 = std::min(top + tile.height, ch);
    if (x2 > x1)
      for (int y = y1; y < y2; ++y)
        std::memcpy(canvas.row(y) + 3 * x1, tile.row(y - top) + 3 * (x1 - left),
                    static_cast<size_t>(3 * (x2 - x1)));
    if (tiles[k].labels == nullptr) continue;
    const auto w = static_cast<float>(tile.width);
    const auto h = static_cast<float>(tile.height);
    for (const Label& l : *tiles[k].labels) {
      if (l.crowd) continue;
      auto x = [&](float v) {
        return std::clamp(w * v + static_cast<float>(left), 0.0f, static_cast<float>(cw));
      };
      auto y = [&](float v) {
        return std::clamp(h * v + static_cast<float>(top), 0.0f, static_cast<float>(ch));
      };
      mosaic.labels.push_back(
          {l.category, x(l.cx - l.w / 2), y(l.cy - l.h / 2), x(l.cx + l.w / 2), y(l.cy + l.h / 2)});
    }
  }
}

}  // namespace sextant::data
