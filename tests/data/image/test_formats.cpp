// SPDX-License-Identifier: Apache-2.0
// Orientation, other image formats, and files that claim more pixels than they hold.
#include <array>
#include <cstring>

#include "core/file.h"
#include "data/image/exif.h"
#include "data/image/image.h"
#include "data/image/jpeg.h"
#include "data/images.h"
#include "data/tiny_files.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::Contains;
using sextant::test::error_of;
using sextant::test::largest_difference;

namespace {

using Bytes = std::vector<uint8_t>;

void append(Bytes& to, std::span<const uint8_t> bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}
void big(Bytes& to, uint32_t value, int size) {
  for (int i = size; i-- > 0;) to.push_back(static_cast<uint8_t>(value >> 8 * i));
}
void little(Bytes& to, uint32_t value, int size) {
  for (int i = 0; i < size; ++i) to.push_back(static_cast<uint8_t>(value >> 8 * i));
}
void put(Bytes& to, const char* text) {
  append(to, std::span(reinterpret_cast<const uint8_t*>(text), std::strlen(text)));
}

// A block of Exif with the orientation behind another entry.
Bytes exif(int orientation, bool big_endian) {
  Bytes b;
  const auto number = [&](uint32_t v, int size) {
    big_endian ? big(b, v, size) : little(b, v, size);
  };
  put(b, big_endian ? "MM" : "II");
  number(42, 2);
  number(8, 4);
  number(2, 2);
  for (const uint32_t tag : {0x0100u, 0x0112u}) {
    number(tag, 2);
    number(3, 2);
    number(1, 4);
    number(static_cast<uint32_t>(tag == 0x0112u ? orientation : 7), 2);
    number(0, 2);
  }
  return b;
}

Bytes turned_jpeg(int orientation, bool big_endian) {
  Bytes b{0xFF, 0xD8, 0xFF, 0xE1};
  const Bytes block = exif(orientation, big_endian);
  big(b, static_cast<uint32_t>(block.size() + 8), 2);
  put(b, "Exif");
  big(b, 0, 2);
  append(b, block);
  append(b, std::span(test::kJpeg).subspan(2));
  return b;
}

// The PNG of an image with an eXIf chunk before or behind its pixels. Checksums are not looked at.
Bytes turned_png(const Image& image, int orientation, bool behind) {
  const test::TemporaryFolder folder;
  save_png(folder / "a.png", image);
  Bytes b = read_bytes(folder / "a.png");
  Bytes chunk;
  const Bytes block = exif(orientation, false);
  big(chunk, static_cast<uint32_t>(block.size()), 4);
  put(chunk, "eXIf");
  append(chunk, block);
  big(chunk, 0, 4);
  const size_t at = behind ? b.size() - 12 : 8 + 25;
  b.insert(b.begin() + static_cast<std::ptrdiff_t>(at), chunk.begin(), chunk.end());
  return b;
}

Bytes bmp(int width, int height) {
  const auto row = static_cast<uint32_t>((width * 3 + 3) / 4 * 4);
  Bytes b;
  put(b, "BM");
  little(b, 54 + row * static_cast<uint32_t>(height), 4);
  little(b, 0, 4);
  little(b, 54, 4);
  little(b, 40, 4);
  little(b, static_cast<uint32_t>(width), 4);
  little(b, static_cast<uint32_t>(height), 4);
  little(b, 1, 2);
  little(b, 24, 2);
  b.resize(54);
  for (int y = 0; y < height; ++y)
    for (uint32_t x = 0; x < row; ++x)
      b.push_back(static_cast<uint8_t>(y * 40 + static_cast<int>(x)));
  return b;
}

// An uncompressed RGB file.
Bytes tiff(int width, int height, int orientation) {
  Bytes b;
  put(b, "II");
  little(b, 42, 2);
  const auto pixels = static_cast<uint32_t>(3 * width * height);
  little(b, 8 + pixels + pixels % 2, 4);
  for (uint32_t i = 0; i < pixels + pixels % 2; ++i) b.push_back(static_cast<uint8_t>(i));
  const std::array<std::array<uint32_t, 3>, 9> entries{
      {{0x100, 4, static_cast<uint32_t>(width)},
       {0x101, 4, static_cast<uint32_t>(height)},
       {0x102, 3, 8},
       {0x106, 3, 2},
       {0x111, 4, 8},
       {0x112, 3, static_cast<uint32_t>(orientation)},
       {0x115, 3, 3},
       {0x116, 4, static_cast<uint32_t>(height)},
       {0x117, 4, pixels}}};
  little(b, entries.size(), 2);
  for (const auto& [tag, type, value] : entries) {
    little(b, tag, 2);
    little(b, type, 2);
    little(b, 1, 4);
    little(b, value, 4);
  }
  little(b, 0, 4);
  return b;
}

// 3x2, lossless.
constexpr uint8_t kWebp[] = {
    0x52, 0x49, 0x46, 0x46, 0x42, 0x00, 0x00, 0x00, 0x57, 0x45, 0x42, 0x50, 0x56, 0x50, 0x38,
    0x4C, 0x36, 0x00, 0x00, 0x00, 0x2F, 0x02, 0x40, 0x00, 0x00, 0x2F, 0x40, 0x10, 0x40, 0x52,
    0x23, 0x4C, 0xB6, 0xBF, 0xCC, 0x1A, 0x64, 0xD2, 0x36, 0xA5, 0x5F, 0xFD, 0xFB, 0x99, 0xB5,
    0x91, 0x09, 0x58, 0x0C, 0x15, 0x7C, 0xFA, 0xE7, 0x34, 0xFF, 0x01, 0x7F, 0xC4, 0x23, 0x46,
    0x9B, 0xAD, 0x40, 0x20, 0x40, 0x19, 0x2B, 0x1E, 0xD8, 0x26, 0xA2, 0xFF, 0x31, 0x5E};

Bytes turned_webp(int orientation) {
  Bytes b;
  put(b, "RIFF");
  const Bytes block = exif(orientation, true);
  little(b,
         static_cast<uint32_t>(4 + 18 + (sizeof kWebp - 12) + 8 + block.size() + block.size() % 2),
         4);
  put(b, "WEBPVP8X");
  little(b, 10, 4);
  little(b, 8, 4);  // has Exif
  little(b, 2, 3);
  little(b, 1, 3);
  append(b, std::span(kWebp).subspan(12));
  put(b, "EXIF");
  little(b, static_cast<uint32_t>(block.size()), 4);
  append(b, block);
  b.resize(b.size() + block.size() % 2);
  return b;
}

bool built_with(const char* library) {
  const auto any =
      std::string(library) == "libtiff" ? tiff(1, 1, 1) : Bytes(kWebp, std::end(kWebp));
  return error_of([&] { decode_image(any, "x"); }).find(library) == std::string::npos;
}

// Size of the file's header, which has to be that of the image.
Image decode_file(const Bytes& bytes) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "image", test::as_text(bytes));
  const Image image = load_image(folder / "image");
  const ImageSize size = image_size(folder / "image");
  CHECK(size.width == image.width);
  CHECK(size.height == image.height);
  return image;
}

}  // namespace

TEST_CASE("image: the eight orientations") {
  // a b c   as stored
  // d e f
  Image stored = make_image(3, 2);
  for (int i = 0; i < 6; ++i)
    for (int c = 0; c < 3; ++c)
      stored.pixels[static_cast<size_t>(3 * i + c)] = static_cast<uint8_t>('a' + i);
  const auto text = [](const Image& image) {
    std::string t;
    for (int y = 0; y < image.height; ++y) {
      if (y > 0) t += '/';
      for (int x = 0; x < image.width; ++x) t += static_cast<char>(image.row(y)[3 * x + 2]);
    }
    return t;
  };
  const char* expected[] = {"abc/def",  "cba/fed",  "fed/cba",  "def/abc",
                            "ad/be/cf", "da/eb/fc", "fc/eb/da", "cf/be/ad"};
  for (int o = 1; o <= 8; ++o) CHECK(text(upright(stored, o)) == expected[o - 1]);
}

TEST_CASE("image: a photograph is turned upright") {
  const Image stored = decode_image(test::kJpeg, "plain.jpg");
  for (int o = 1; o <= 8; ++o)
    for (const bool big_endian : {false, true}) {
      INFO(o);
      CHECK(largest_difference(decode_file(turned_jpeg(o, big_endian)), upright(stored, o)) == 0);
    }
  CHECK(decode_file(turned_jpeg(6, true)).width == 8);
  CHECK(decode_file(turned_jpeg(9, true)).width == 16);
  const Image image = test::pattern(70, 50, 1);
  for (const bool behind : {false, true})
    CHECK(largest_difference(decode_file(turned_png(image, 8, behind)), upright(image, 8)) == 0);
  // Longer than what is read ahead, with the orientation at the end.
  const Image large = test::pattern(300, 200, 2);
  CHECK(largest_difference(decode_file(turned_png(large, 6, true)), upright(large, 6)) == 0);
}

TEST_CASE("image: broken Exif metadata is ignored") {
  for (size_t n = 0; n <= exif(6, true).size(); ++n) {
    const Bytes whole = exif(6, true);
    const int o = exif_orientation(std::span(whole).first(n));
    CHECK((o == 1 || n == whole.size()));
  }
  CHECK(exif_orientation(exif(6, true)) == 6);
  CHECK(exif_orientation(exif(0, true)) == 1);
  Bytes far = exif(6, true);
  far[4] = 0xFF;  // the directory lies elsewhere
  CHECK(exif_orientation(far) == 1);
}

TEST_CASE("image: BMP") {
  const Image image = decode_file(bmp(5, 3));
  REQUIRE(image.width == 5);
  // Rows from the bottom, blue first.
  CHECK(image.row(2)[0] == 2);
  CHECK(image.row(2)[2] == 0);
  CHECK(image.row(0)[3] == 2 * 40 + 5);
  const Bytes whole = bmp(5, 3);
  for (const size_t less : {2, 10, 40})
    CHECK_THAT(
        error_of([&] { decode_image(std::span(whole).first(whole.size() - less), "b.bmp"); }),
        Contains("b.bmp: the BMP file is cut off"));
}

TEST_CASE("image: TIFF and WebP, if the build has their libraries") {
  if (!built_with("libtiff")) {
    CHECK_THAT(error_of([] { decode_image(tiff(2, 2, 1), "a.tif"); }), Contains("without libtiff"));
    WARN("skipped: built without libtiff");
  } else {
    const Image image = decode_file(tiff(5, 4, 1));
    REQUIRE(image.width == 5);
    CHECK(image.row(1)[0] == 15);
    CHECK(largest_difference(decode_file(tiff(5, 4, 6)), upright(image, 6)) == 0);
    const Bytes whole = tiff(5, 4, 1);
    for (size_t n = 4; n < whole.size(); n += 3) {
      Image part;
      const std::string message =
          error_of([&] { part = decode_image(std::span(whole).first(n), "a.tif"); });
      // libtiff does not miss what is cut off behind the pixels.
      CHECK((message.starts_with("a.tif: ") || part.pixels == image.pixels));
    }
  }
  if (!built_with("libwebp")) {
    WARN("skipped: built without libwebp");
    return;
  }
  const Image image = decode_file(Bytes(kWebp, std::end(kWebp)));
  CHECK(image.pixels == Bytes{255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30, 200, 100, 50, 1, 2, 3});
  CHECK(largest_difference(decode_file(turned_webp(6)), upright(image, 6)) == 0);
  CHECK_THAT(error_of([] { decode_image(std::span(kWebp).first(50), "a.webp"); }),
             Contains("a.webp: "));
}

TEST_CASE("image: a file that cannot hold its pixels is refused before they are made") {
  // The frame header of the tiny JPEG, with other sides.
  const auto sized = [](uint32_t width, uint32_t height) {
    Bytes b(std::begin(test::kJpeg), std::end(test::kJpeg));
    for (size_t at = 2; at + 9 < b.size(); ++at)
      if (b[at] == 0xFF && (b[at + 1] == 0xC0 || b[at + 1] == 0xC2)) {
        b[at + 5] = static_cast<uint8_t>(height >> 8);
        b[at + 6] = static_cast<uint8_t>(height);
        b[at + 7] = static_cast<uint8_t>(width >> 8);
        b[at + 8] = static_cast<uint8_t>(width);
        break;
      }
    return b;
  };
  CHECK_THAT(error_of([&] { decode_image(sized(16384, 16384), "bomb.jpg"); }),
             Contains("bomb.jpg: the image is 16384x16384 in a file of"));
  CHECK_THAT(error_of([&] { decode_image(sized(8000, 8000), "bomb.jpg"); }),
             Contains("bomb.jpg: the JPEG file is cut off") && Contains("8000x8000"));
}

TEST_CASE("image: a JPEG with too many scans is refused") {
  Bytes b(std::begin(test::kJpeg), std::end(test::kJpeg));
  const std::array<uint8_t, 2> scan{0xFF, 0xDA};
  const auto at = std::ranges::search(b, scan);
  REQUIRE_FALSE(at.empty());
  const Bytes header(at.begin(), at.begin() + 2 + at.begin()[3]);
  Bytes many(b.begin(), b.end() - 2);
  for (int k = 0; k < kMaxJpegScans; ++k) append(many, header);
  append(many, std::array<uint8_t, 2>{0xFF, 0xD9});
  CHECK_THAT(error_of([&] { decode_image(many, "scans.jpg"); }),
             Contains("scans.jpg") && Contains("101 scans"));
}

TEST_CASE("image: a PNG that unpacks to more than its pixels is refused") {
  // A PNG of 2500x2500 that says that it is 1x1: its pixels are millions of times what it needs.
  const test::TemporaryFolder folder;
  save_png(folder / "a.png", make_image(2500, 2500, 9));
  Bytes b = read_bytes(folder / "a.png");
  for (size_t i = 16; i < 24; ++i) b[i] = i % 4 == 3;
  CHECK_THAT(error_of([&] { decode_image(b, "bomb.png"); }),
             Contains("bomb.png: the image does not decode"));
}
