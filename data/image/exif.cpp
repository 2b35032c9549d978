// SPDX-License-Identifier: Apache-2.0
#include "data/image/exif.h"

#include <utility>

namespace sextant::data {
namespace {

// Reads numbers of a TIFF block in its byte order; 0 if out of bounds.
struct TiffBlock {
  std::span<const uint8_t> bytes;
  bool big = false;

  uint32_t number(size_t at, size_t size) const {
    if (at > bytes.size() || bytes.size() - at < size) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < size; ++i) value = value << 8 | bytes[at + (big ? i : size - 1 - i)];
    return value;
  }
};

}  // namespace

int exif_orientation(std::span<const uint8_t> tiff) {
  constexpr uint32_t kMagic = 42, kOrientation = 0x0112, kShort = 3;
  if (tiff.size() < 8 || tiff[0] != tiff[1] || (tiff[0] != 'I' && tiff[0] != 'M')) return 1;
  const TiffBlock block{tiff, tiff[0] == 'M'};
  if (block.number(2, 2) != kMagic) return 1;
  const size_t directory = block.number(4, 4);
  const size_t entries = block.number(directory, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t at = directory + 2 + 12 * i;
    if (at + 12 > tiff.size()) break;
    if (block.number(at, 2) != kOrientation || block.number(at + 2, 2) != kShort) continue;
    const uint32_t value = block.number(at + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image upright(Image stored, int orientation) {
  if (orientation <= 1) return stored;
  const int w = stored.width, h = stored.height;
  const bool swap = swaps_sides(orientation);
  Image out = make_image(swap ? h : w, swap ? w : h);
  // The position in the stored image of a pixel of the upright one: mirrored along x, along y, or
  // both, after the sides have been exchanged.
  const bool mirror_x =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirror_y =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int y = 0; y < out.height; ++y) {
    uint8_t* to = out.row(y);
    for (int x = 0; x < out.width; ++x) {
      const int u = swap ? y : x, v = swap ? x : y;
      const uint8_t* from = stored.row(mirror_y ? h - 1 - v : v) + 3 * (mirror_x ? w - 1 - u : u);
      for (int c = 0; c < 3; ++c) *to++ = from[c];
    }
  }
  return out;
}

}  // namespace sextant::data
