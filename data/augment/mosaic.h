// SPDX-License-Identifier: Apache-2.0
// Mosaic: four images around a point on a canvas of twice the size. As the official
// mosaic_augmentation.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "data/augment/affine.h"
#include "data/dataset/dataset.h"
#include "data/image/image.h"

namespace sextant::data {

struct MosaicTile {
  const Image* image = nullptr;
  const std::vector<Label>* labels = nullptr;
};
using MosaicTiles = std::array<MosaicTile, 4>;

// An image on a canvas, its upper left corner at (left, top), which may lie outside.
struct CanvasTile {
  const Image* image = nullptr;
  int left = 0;
  int top = 0;
};

// Tiles lie above left, above right, below left and below right of (xc, yc), each touching that
// point with its nearest corner; parts outside the canvas of 2 * width x 2 * height are cut off.
// The official draw of the point: xc in [width / 2, 3 * width / 2), yc likewise. Throws Error for
// an empty tile.
using MosaicPlaces = std::array<CanvasTile, 4>;
MosaicPlaces mosaic_places(const MosaicTiles& tiles, int xc, int yc);

// The boxes of all tiles on the canvas, clipped to it. Crowd boxes are left out.
std::vector<PixelLabel> mosaic_labels(const MosaicTiles& tiles, const MosaicPlaces& places,
                                      int width, int height);

// Paints tiles on a canvas of width x height. Where tiles overlap, the last one wins; uncovered
// pixels are 114. Outside the window the canvas holds anything. Reuses the memory of the canvas.
void paint_canvas(std::span<const CanvasTile> tiles, int width, int height, const Window& window,
                  Image& canvas);

}  // namespace sextant::data
