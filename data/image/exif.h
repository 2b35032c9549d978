// The orientation of a photograph: how a camera was held, as Exif metadata says it.
#pragma once

#include <cstdint>
#include <span>

#include "data/image/image.h"

namespace sextant::data {

// The orientation in a block of Exif metadata, which is a TIFF file without pixels: 1 to 8 as the
// tag 0x0112 has it (CIPA DC-008, 4.6.4 A). 1, as it is, where the block has none or is broken.
int exif_orientation(std::span<const uint8_t> tiff);

// Whether an image of this orientation is stored with its sides exchanged.
inline bool swaps_sides(int orientation) { return orientation >= 5; }

// The image as it is to be seen.
Image upright(Image stored, int orientation);

}  // namespace sextant::data
