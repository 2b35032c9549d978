// A look at the segments of a JPEG file, before it is given to the decoder, which trusts the length
// of its Huffman tables and fills what is missing at the end with grey.
#pragma once

#include <cstdint>
#include <span>

namespace sextant::data {

bool is_jpeg(std::span<const uint8_t> bytes);

enum class JpegState {
  kGood,
  kCutOff,  // ends before the end marker (or the frame header)
  kBroken,  // a Huffman table is impossible
};

// Walks the segments up to the end marker, or, with `header_only`, up to the frame header, which
// holds the size.
JpegState check_jpeg(std::span<const uint8_t> bytes, bool header_only);

}  // namespace sextant::data
