// A look at the segments of a JPEG file, before it is given to the decoder, which trusts the length
// of its Huffman tables, fills what is missing at the end with grey and decodes any number of scans.
#pragma once

#include <cstdint>
#include <span>

namespace sextant::data {

bool is_jpeg(std::span<const uint8_t> bytes);

// Of a usual progressive file about ten; each is a pass over all pixels.
inline constexpr int kMaxJpegScans = 100;

enum class JpegState {
  kGood,
  kCutOff,  // ends before the end marker (or the frame header)
  kBroken,  // a Huffman table is impossible, or there is more than one frame header
};

struct JpegLook {
  JpegState state = JpegState::kCutOff;
  int scans = 0;
  int orientation = 1;  // of Exif metadata before the frame header
};

// Walks the segments up to the end marker, or, with `header_only`, up to the frame header, which
// holds the size.
JpegLook look_at_jpeg(std::span<const uint8_t> bytes, bool header_only);

}  // namespace sextant::data
