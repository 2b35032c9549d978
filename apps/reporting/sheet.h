// SPDX-License-Identifier: Apache-2.0
// Several pictures on one.
#pragma once

#include <string>
#include <vector>

#include "data/drawing/draw.h"
#include "data/image/image.h"

namespace sextant::apps {

struct Tile {
  data::Image image;
  std::string caption;                   // above it; may be empty
  std::vector<data::LabelledBox> boxes;  // in pixels of the image
};

// Tiles of 400 pixels a side in rows of `columns`, each image scaled to fit. Empty without tiles.
data::Image draw_sheet(const std::vector<Tile>& tiles, int columns);

// Pictures of one size in rows of `columns`.
data::Image side_by_side(const std::vector<data::Image>& pictures, int columns);

}  // namespace sextant::apps
