// SPDX-License-Identifier: Apache-2.0
#include "apps/detecting/encoded_stream.h"

#include <algorithm>

#include "core/error.h"
#include "data/image/jpeg.h"
#include "data/image/png.h"

namespace sextant::apps {
namespace {

constexpr size_t kMostBytes = size_t{1} << 30;

class Reader {
 public:
  Reader(std::FILE* stream, std::vector<uint8_t>& bytes, const std::string& name)
      : stream_(stream), bytes_(bytes), name_(name) {}

  // False at the end of the stream.
  bool start() {
    const int c = std::getc(stream_);
    if (c == EOF) return false;
    bytes_.push_back(static_cast<uint8_t>(c));
    return true;
  }
  uint8_t byte() {
    const int c = std::getc(stream_);
    check(c != EOF, "{}: the last image is cut off", name_);
    check(bytes_.size() < kMostBytes, "{}: an image is larger than 1 GiB", name_);
    bytes_.push_back(static_cast<uint8_t>(c));
    return bytes_.back();
  }
  void take(size_t count) {
    check(count <= kMostBytes - bytes_.size(), "{}: an image is larger than 1 GiB", name_);
    // In pieces, so that a wrong length does not allocate memory.
    while (count > 0) {
      const size_t piece = std::min<size_t>(count, 1 << 16), at = bytes_.size();
      bytes_.resize(at + piece);
      check(std::fread(bytes_.data() + at, 1, piece, stream_) == piece,
            "{}: the last image is cut off", name_);
      count -= piece;
    }
  }
  uint32_t big_endian(size_t count) {
    uint32_t value = 0;
    for (size_t i = 0; i < count; ++i) value = value << 8 | byte();
    return value;
  }

 private:
  std::FILE* stream_;
  std::vector<uint8_t>& bytes_;
  const std::string& name_;
};

// After the start marker: segments with a length, and, after a start of scan, coded data in which
// 0xff occurs only before 0, a restart marker or the next segment.
void take_jpeg(Reader& reader) {
  constexpr uint8_t kEnd = 0xd9, kScan = 0xda;
  const auto stands_alone = [](uint8_t m) { return m == 0x01 || (m >= 0xd0 && m <= 0xd8); };
  uint8_t marker = 0;
  const auto find_marker = [&](bool in_scan) {
    while (true) {
      while (reader.byte() != 0xff) {
      }
      do marker = reader.byte();
      while (marker == 0xff);
      if (marker != 0 && !(in_scan && stands_alone(marker))) return;
    }
  };
  find_marker(false);
  while (marker != kEnd) {
    if (!stands_alone(marker)) {
      const uint32_t length = reader.big_endian(2);
      if (length > 2) reader.take(length - 2);
    }
    find_marker(marker == kScan);
  }
}

// After the signature: chunks of length, name, data and checksum.
void take_png(Reader& reader) {
  constexpr uint32_t kEnd = 0x49454e44;  // IEND
  uint32_t kind = 0;
  do {
    const uint32_t length = reader.big_endian(4);
    kind = reader.big_endian(4);
    reader.take(size_t{length} + 4);
  } while (kind != kEnd);
}

}  // namespace

bool read_encoded_image(std::FILE* stream, std::vector<uint8_t>& bytes, const std::string& name) {
  bytes.clear();
  Reader reader(stream, bytes, name);
  if (!reader.start()) return false;
  if (bytes[0] == 0xff) {
    check(reader.byte() == 0xd8, "{}: neither JPEG nor PNG images; raw frames need --raw", name);
    take_jpeg(reader);
    return true;
  }
  constexpr size_t kSignature = 8;
  if (bytes[0] == 0x89) reader.take(kSignature - 1);
  check(data::is_png(bytes), "{}: neither JPEG nor PNG images; raw frames need --raw", name);
  take_png(reader);
  return true;
}

}  // namespace sextant::apps
