// SPDX-License-Identifier: Apache-2.0
// The segments of a JPEG file, walked before decoding: size and orientation without a decoder, and
// checks for what decoders let pass: a missing end, or any number of scans.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/image/codecs.h"

namespace sextant::data {

bool is_jpeg(std::span<const uint8_t> bytes);

// A normal progressive file has about ten; each is a pass over all pixels.
inline constexpr int kMaxJpegScans = 100;

enum class JpegState {
  kGood,
  kCutOff,  // ends before the end marker (or the frame header)
  kBroken,  // a Huffman table is impossible, or there is not one frame header with a size
};

struct JpegLook {
  JpegState state = JpegState::kCutOff;
  int scans = 0;
  int width = 0;  // from the frame header
  int height = 0;
  int orientation = 1;  // from Exif metadata before the frame header
};

// Walks the segments up to the end marker, or, with `header_only`, up to the frame header, which
// holds the size.
JpegLook look_at_jpeg(std::span<const uint8_t> bytes, bool header_only);

// Throws Error naming the file when its end is missing, or when it has more pixels or scans than its
// bytes can hold or a picture needs.
void check_jpeg_is_whole(std::span<const uint8_t> bytes, const ImageHeader& header,
                         const std::string& name);

}  // namespace sextant::data
