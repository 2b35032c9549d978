// SPDX-License-Identifier: Apache-2.0
// Reads the chunks of a PNG file before it is decoded.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

namespace sextant::data {

bool is_png(std::span<const uint8_t> bytes);

struct PngHeader {
  int64_t width = 0, height = 0;
  int orientation = 1;  // from an eXIf chunk, which may follow the pixels
};

// Copies bytes at an offset of the file; false if the file ends before.
using ReadAt = std::function<bool(uint64_t at, std::span<uint8_t> bytes)>;

// False if the file does not begin with a header chunk.
bool read_png_header(const ReadAt& read, PngHeader& header);

}  // namespace sextant::data
