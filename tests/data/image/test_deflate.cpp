// SPDX-License-Identifier: Apache-2.0
#include <zlib.h>

#include <cmath>
#include <numeric>

#include "core/rng.h"
#include "data/image/deflate.h"
#include "data/image/image.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;

namespace {

using Bytes = std::vector<uint8_t>;

// By zlib, which checks the sum at the end too.
Bytes unpacked(const Bytes& stream, size_t size) {
  Bytes out(size + 1);
  uLongf got = out.size();
  REQUIRE(uncompress(out.data(), &got, stream.data(), stream.size()) == Z_OK);
  out.resize(got);
  return out;
}

// The lower `levels` are, the more often a byte repeats.
Bytes random_bytes(size_t size, uint32_t levels, uint64_t seed) {
  Rng rng(seed);
  Bytes bytes(size);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(rng.below(levels));
  return bytes;
}

}  // namespace

TEST_CASE("deflate: zlib unpacks what was packed") {
  for (const size_t size : {0, 1, 2, 4, 5, 257, 258, 259, 260, 5000, 100000})
    for (const uint32_t levels : {1u, 2u, 3u, 17u, 256u}) {
      CAPTURE(size, levels);
      const Bytes bytes = random_bytes(size, levels, size + levels);
      CHECK(unpacked(zlib_stream(bytes), size) == bytes);
    }
  Bytes all;  // runs of every length
  for (int run = 1; run <= 600; ++run) all.insert(all.end(), static_cast<size_t>(run), run & 0xFF);
  CHECK(unpacked(zlib_stream(all), all.size()) == all);
  CHECK(zlib_stream(Bytes(100000, 7)).size() < 200);
}

TEST_CASE("huffman: codes are complete, short enough, and the best where depth is free") {
  // Fibonacci numbers make the deepest tree.
  std::vector<uint32_t> counts{1, 1};
  while (counts.size() < 40) counts.push_back(counts.end()[-1] + counts.end()[-2]);
  for (const int longest : {6, 7, 15, 39}) {
    const Bytes lengths = huffman_lengths(counts, longest);
    double sum = 0;
    for (const uint8_t l : lengths) {
      CHECK(l >= 1);
      CHECK(l <= longest);
      sum += std::pow(0.5, l);
    }
    CHECK(sum == 1.0);
  }
  CHECK(huffman_lengths(counts, 39)[0] == 39);
  CHECK(huffman_lengths(std::vector<uint32_t>{5, 0, 1, 1, 2}, 15) == Bytes{1, 0, 3, 3, 2});
  CHECK(huffman_lengths(std::vector<uint32_t>{0, 0, 9}, 15) == Bytes{1, 0, 1});
  CHECK(huffman_lengths(std::vector<uint32_t>{0, 0, 0}, 15) == Bytes{1, 1, 0});
}

TEST_CASE("png: pictures come back as they were saved") {
  const test::TemporaryFolder folder;
  for (const auto& [width, height] : {std::pair{1, 1}, {1, 9}, {7, 1}, {61, 43}})
    for (const uint32_t levels : {1u, 4u, 256u}) {
      CAPTURE(width, height, levels);
      Image image = make_image(width, height);
      image.pixels = random_bytes(image.pixels.size(), levels, levels);
      save_png(folder / "a.png", image);
      CHECK(load_image(folder / "a.png").pixels == image.pixels);
    }
  // Smooth ones, for which each filter is the best in some rows.
  Image image = make_image(64, 96);
  for (int y = 0; y < 96; ++y)
    for (int x = 0; x < 192; ++x)
      image.row(y)[x] = static_cast<uint8_t>(y < 32 ? 3 * x : y < 64 ? 5 * y : x * y / 16);
  save_png(folder / "b.png", image);
  CHECK(load_image(folder / "b.png").pixels == image.pixels);
  CHECK(std::filesystem::file_size(folder / "b.png") < image.pixels.size() / 3);
}
