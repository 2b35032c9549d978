// SPDX-License-Identifier: Apache-2.0
// The orientation of a photograph from its Exif metadata: how the camera was held.
#pragma once

#include <cstdint>
#include <span>

#include "data/image/image.h"

namespace sextant::data {

// The orientation in a block of Exif metadata, which is a TIFF file without pixels: the value 1 to
// 8 of tag 0x0112 (CIPA DC-008, 4.6.4 A). 1 (upright) if the block has none or is broken.
int exif_orientation(std::span<const uint8_t> tiff);

// Whether images of this orientation are stored with width and height exchanged.
inline bool swaps_sides(int orientation) { return orientation >= 5; }

// Turns the image upright.
Image upright(Image stored, int orientation);

}  // namespace sextant::data
