// SPDX-License-Identifier: Apache-2.0
#include "data/image/jpeg.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "core/error.h"
#include "data/image/exif.h"

namespace sextant::data {
namespace {

// ITU T.81, B.2.4.2: tables of a class byte, 16 counts, and as many values as the counts add up to.
bool huffman_tables_fit(std::span<const uint8_t> segment) {
  constexpr size_t kHead = 17;
  while (!segment.empty()) {
    if (segment.size() < kHead) return false;
    size_t values = 0;
    for (size_t k = 1; k < kHead; ++k) values += segment[k];
    if (values > 256 || segment.size() < kHead + values) return false;
    segment = segment.subspan(kHead + values);
  }
  return true;
}

// The contents of an APP1 segment, which may be something else (XMP).
int jpeg_orientation(std::span<const uint8_t> contents) {
  constexpr std::array<uint8_t, 6> kTitle{'E', 'x', 'i', 'f', 0, 0};
  if (contents.size() < kTitle.size() ||
      !std::equal(kTitle.begin(), kTitle.end(), contents.begin()))
    return 1;
  return exif_orientation(contents.subspan(kTitle.size()));
}

constexpr uint8_t kHuffman = 0xC4;
constexpr uint8_t kScan = 0xDA;
constexpr uint8_t kEnd = 0xD9;
constexpr uint8_t kExif = 0xE1;

bool is_frame(uint8_t marker) {
  return marker >= 0xC0 && marker <= 0xCF && marker != kHuffman && marker != 0xC8 && marker != 0xCC;
}

// Markers without length and contents.
bool stands_alone(uint8_t marker) {
  return marker == 0x00 || marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8);
}

}  // namespace

bool is_jpeg(std::span<const uint8_t> bytes) {
  return bytes.size() >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF;
}

JpegLook look_at_jpeg(std::span<const uint8_t> bytes, bool header_only) {
  JpegLook look;
  size_t at = 2;
  bool in_scan = false, frame_seen = false;
  const auto ends = [&](JpegState state) {
    look.state = state;
    return look;
  };
  while (at + 1 < bytes.size()) {
    if (bytes[at] != 0xFF) {
      const void* next = std::memchr(bytes.data() + at, 0xFF, bytes.size() - at);
      if (next == nullptr) return ends(JpegState::kCutOff);
      at = static_cast<size_t>(static_cast<const uint8_t*>(next) - bytes.data());
      continue;
    }
    const uint8_t marker = bytes[at + 1];
    if (marker == kEnd) return ends(JpegState::kGood);
    if (marker == 0xFF) {  // fill byte
      at += 1;
      continue;
    }
    if (stands_alone(marker) || (in_scan && marker < 0xC0)) {
      at += 2;
      continue;
    }
    // Segments are skipped as a whole: an embedded thumbnail has its own end marker.
    if (at + 3 >= bytes.size()) return ends(JpegState::kCutOff);
    const size_t length = size_t{bytes[at + 2]} << 8 | bytes[at + 3];
    if (length < 2) return ends(JpegState::kBroken);
    if (at + 2 + length > bytes.size()) return ends(JpegState::kCutOff);
    const auto contents = bytes.subspan(at + 4, length - 2);
    if (marker == kHuffman && !huffman_tables_fit(contents)) return ends(JpegState::kBroken);
    if (marker == kExif && !frame_seen && look.orientation == 1)
      look.orientation = jpeg_orientation(contents);
    if (is_frame(marker)) {
      // B.2.2: precision, height, width, number of components.
      if (frame_seen || contents.size() < 6) return ends(JpegState::kBroken);
      look.height = contents[1] << 8 | contents[2];
      look.width = contents[3] << 8 | contents[4];
      if (header_only) return ends(JpegState::kGood);
      frame_seen = true;
    }
    in_scan = marker == kScan;
    look.scans += in_scan;
    at += 2 + length;
  }
  return ends(JpegState::kCutOff);
}

ImageHeader jpeg_header(std::span<const uint8_t> bytes, const std::string& name) {
  const JpegLook look = look_at_jpeg(bytes, true);
  check(look.state == JpegState::kGood, "{}: the image header is broken", name);
  return {look.width, look.height, look.orientation};
}

void check_jpeg_is_whole(std::span<const uint8_t> bytes, const ImageHeader& header,
                         const std::string& name) {
  const JpegLook look = look_at_jpeg(bytes, false);
  check(look.state != JpegState::kCutOff, "{}: the JPEG file is cut off", name);
  check(look.state == JpegState::kGood,
        "{}: the image does not decode (broken Huffman table or frame)", name);
  // A block of 64 pixels takes at least one bit. The slack is for sides that are not a multiple of
  // 8.
  constexpr int64_t kPixelsPerByte = 64 * 8, kSlack = 1 << 20;
  check(
      header.width * header.height <= kPixelsPerByte * static_cast<int64_t>(bytes.size()) + kSlack,
      "{}: the JPEG file is cut off: {} bytes cannot hold {}x{} pixels", name, bytes.size(),
      header.width, header.height);
  constexpr int64_t kScannedPixels = int64_t{1} << 32;
  check(look.scans <= kMaxJpegScans && look.scans * header.width * header.height <= kScannedPixels,
        "{}: the JPEG file has {} scans over {}x{} pixels, more than a picture needs", name,
        look.scans, header.width, header.height);
}

}  // namespace sextant::data
