// Mosaic: four images around a point on a canvas of twice the size. As the official
// mosaic_augmentation.
#pragma once

#include <array>
#include <vector>

#include "data/affine.h"
#include "data/dataset.h"
#include "data/image.h"

namespace sextant::data {

struct MosaicTile {
  const Image* image = nullptr;
  const std::vector<Label>* labels = nullptr;
};

struct Mosaic {
  Image canvas;                    // [2 * height, 2 * width]
  std::vector<PixelLabel> labels;  // clipped to the canvas
};

// Tiles lie left above, right above, left below and right below (xc, yc), each touching that point
// with its nearest corner; what is outside the canvas is cut off, what no tile covers is 114. The
// official draw of the point: xc in [width / 2, 3 * width / 2), yc likewise. Crowd boxes are left
// out. The canvas' memory is used again.
void make_mosaic(const std::array<MosaicTile, 4>& tiles, int width, int height, int xc, int yc,
                 Mosaic& mosaic);

}  // namespace sextant::data
