// SPDX-License-Identifier: Apache-2.0
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/unflushed_file.h"
#include "data/image/deflate.h"
#include "data/image/image.h"

namespace sextant::data {
namespace {

using Bytes = std::vector<uint8_t>;
constexpr int64_t kPixel = 3;  // bytes

// PNG specification, 9.2. A predictor gives a byte from its neighbours: left, above, and above left.
enum Filter : uint8_t { kSub = 1, kUp = 2, kPaeth = 4 };

uint8_t paeth(int left, int above, int corner) {
  const int to_left = std::abs(above - corner), to_above = std::abs(left - corner);
  const int to_corner = std::abs(left + above - 2 * corner);
  const int rest = to_above <= to_corner ? above : corner;
  return static_cast<uint8_t>(to_left <= to_above && to_left <= to_corner ? left : rest);
}

// Writes the differences to the prediction; returns the sum of their sizes, a measure of how long
// they will be.
template <class Predict>
int64_t filter_row(const uint8_t* row, const uint8_t* above, int64_t bytes, uint8_t* out,
                   const Predict& predict) {
  for (int64_t i = 0; i < kPixel; ++i)
    out[i] = static_cast<uint8_t>(row[i] - predict(0, above[i], 0));
  for (int64_t i = kPixel; i < bytes; ++i)
    out[i] = static_cast<uint8_t>(row[i] - predict(row[i - kPixel], above[i], above[i - kPixel]));
  int32_t sum = 0;  // at most 3 * kMaxImageSide * 128
  for (int64_t i = 0; i < bytes; ++i) sum += std::abs(static_cast<int8_t>(out[i]));
  return sum;
}

// Each row with the number of its filter before it, the one that leaves the smallest differences.
Bytes filtered(const Image& image) {
  const int64_t pitch = image.pitch();
  const Bytes black(static_cast<size_t>(pitch), 0);
  std::array<Bytes, 3> tries;
  for (Bytes& row : tries) row.resize(static_cast<size_t>(pitch) + 1);
  Bytes out;
  out.reserve(static_cast<size_t>((pitch + 1) * image.height));
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* row = image.row(y);
    const uint8_t* above = y > 0 ? image.row(y - 1) : black.data();
    const std::array<int64_t, 3> sums{
        filter_row(row, above, pitch, tries[0].data() + 1, [](int a, int, int) { return a; }),
        filter_row(row, above, pitch, tries[1].data() + 1, [](int, int b, int) { return b; }),
        filter_row(row, above, pitch, tries[2].data() + 1,
                   [](int a, int b, int c) { return paeth(a, b, c); })};
    const auto best = static_cast<size_t>(std::ranges::min_element(sums) - sums.begin());
    constexpr std::array<uint8_t, 3> kNumbers{kSub, kUp, kPaeth};
    tries[best][0] = kNumbers[best];
    out.insert(out.end(), tries[best].begin(), tries[best].end());
  }
  return out;
}

void put_number(uint32_t number, Bytes& out) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(number >> shift));
}

// PNG specification, 5.3: length, name, contents, checksum of the last two.
void put_chunk(std::string_view name, const Bytes& contents, Bytes& out) {
  put_number(static_cast<uint32_t>(contents.size()), out);
  const size_t from = out.size();
  out.insert(out.end(), name.begin(), name.end());
  out.insert(out.end(), contents.begin(), contents.end());
  put_number(static_cast<uint32_t>(crc32_z(0, out.data() + from, out.size() - from)), out);
}

}  // namespace

void save_png(const std::filesystem::path& path, const Image& image) {
  check_can_be_saved(path, image);
  Bytes header;
  put_number(static_cast<uint32_t>(image.width), header);
  put_number(static_cast<uint32_t>(image.height), header);
  // 8 bits, RGB, the one compression, the one set of filters, not interlaced
  header.insert(header.end(), {8, 2, 0, 0, 0});
  Bytes file{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  put_chunk("IHDR", header, file);
  put_chunk("IDAT", zlib_stream(filtered(image)), file);
  put_chunk("IEND", {}, file);
  write_unflushed(path, std::as_bytes(std::span(file)));
}

}  // namespace sextant::data
