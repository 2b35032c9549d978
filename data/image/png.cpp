// SPDX-License-Identifier: Apache-2.0
#include "data/image/png.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "data/image/exif.h"

namespace sextant::data {
namespace {

constexpr std::array<uint8_t, 8> kSignature{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
constexpr size_t kMaxExif = size_t{1} << 16;
// A chunk of pixels is rarely smaller than 8 KiB; a file with more chunks than this is left to the
// decoder.
constexpr int kMaxChunks = 1 << 20;

uint32_t big_endian(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | uint32_t{p[3]};
}

}  // namespace

bool is_png(std::span<const uint8_t> bytes) {
  return bytes.size() >= kSignature.size() &&
         std::equal(kSignature.begin(), kSignature.end(), bytes.begin());
}

bool read_png_header(const ReadAt& read, PngHeader& header) {
  // Chunks: length, type, contents, checksum.
  std::array<uint8_t, 16> first{};
  if (!read(kSignature.size(), first)) return false;
  if (std::string_view(reinterpret_cast<const char*>(first.data()) + 4, 4) != "IHDR") return false;
  header.width = big_endian(first.data() + 8);
  header.height = big_endian(first.data() + 12);
  uint64_t at = kSignature.size();
  for (int k = 0; k < kMaxChunks; ++k) {
    std::array<uint8_t, 8> chunk{};
    if (!read(at, chunk)) break;
    const uint32_t length = big_endian(chunk.data());
    const std::string_view type(reinterpret_cast<const char*>(chunk.data()) + 4, 4);
    if (type == "IEND") break;
    if (type == "eXIf" && length <= kMaxExif) {
      std::vector<uint8_t> exif(length);
      if (read(at + chunk.size(), exif)) header.orientation = exif_orientation(exif);
      break;
    }
    at += chunk.size() + length + 4;
  }
  return true;
}

}  // namespace sextant::data
