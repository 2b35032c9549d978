// SPDX-License-Identifier: Apache-2.0
// Checks the segments of a JPEG file before decoding: the decoder trusts the length of Huffman
// tables, fills a missing end with grey and decodes any number of scans.
#pragma once

#include <cstdint>
#include <span>

namespace sextant::data {

bool is_jpeg(std::span<const uint8_t> bytes);

// A normal progressive file has about ten; each is a pass over all pixels.
inline constexpr int kMaxJpegScans = 100;

enum class JpegState {
  kGood,
  kCutOff,  // ends before the end marker (or the frame header)
  kBroken,  // a Huffman table is impossible, or there is more than one frame header
};

struct JpegLook {
  JpegState state = JpegState::kCutOff;
  int scans = 0;
  int orientation = 1;  // from Exif metadata before the frame header
};

// Walks the segments up to the end marker, or, with `header_only`, up to the frame header, which
// holds the size.
JpegLook look_at_jpeg(std::span<const uint8_t> bytes, bool header_only);

}  // namespace sextant::data
