// SPDX-License-Identifier: Apache-2.0
// Reading, writing and resizing pictures.
#include <jpeglib.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "core/file.h"
#include "data/image/codecs.h"
#include "data/image/image.h"
#include "data/image/resize.h"
#include "data/images.h"
#include "data/tiny_files.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::Contains;
using sextant::test::error_of;
using sextant::test::largest_difference;

namespace {

// 16 x 16 pixels of one colour. `adobe`: the inks inverted and Adobe's marker.
std::vector<uint8_t> cmyk_jpeg(std::array<uint8_t, 4> inks, bool adobe) {
  std::array<uint8_t, 4 * 16> row{};
  for (size_t i = 0; i < row.size(); ++i)
    row[i] = adobe ? static_cast<uint8_t>(255 - inks[i % 4]) : inks[i % 4];
  jpeg_compress_struct encoder;
  jpeg_error_mgr errors;
  encoder.err = jpeg_std_error(&errors);
  jpeg_create_compress(&encoder);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&encoder, &bytes, &size);
  encoder.image_width = encoder.image_height = 16;
  encoder.input_components = 4;
  encoder.in_color_space = JCS_CMYK;
  jpeg_set_defaults(&encoder);
  jpeg_set_quality(&encoder, 100, TRUE);
  encoder.write_Adobe_marker = adobe ? TRUE : FALSE;
  jpeg_start_compress(&encoder, TRUE);
  JSAMPROW pointer = row.data();
  for (int y = 0; y < 16; ++y) jpeg_write_scanlines(&encoder, &pointer, 1);
  jpeg_finish_compress(&encoder);
  jpeg_destroy_compress(&encoder);
  std::vector<uint8_t> file(bytes, bytes + size);
  std::free(bytes);
  return file;
}

}  // namespace

TEST_CASE("image: a JPEG decodes to RGB") {
  const Image image = decode_image(test::kJpeg, "tiny.jpg");
  REQUIRE(image.width == 16);
  REQUIRE(image.height == 8);
  REQUIRE(image.pixels.size() == 16 * 8 * 3);
  auto near = [&](int x, int y, std::array<int, 3> rgb) {
    for (size_t c = 0; c < 3; ++c)
      CHECK(std::abs(image.row(y)[3 * static_cast<size_t>(x) + c] - rgb[c]) <= 12);
  };
  near(1, 1, {200, 60, 40});
  near(14, 6, {40, 40, 180});
}

TEST_CASE("image: grey, alpha and 16-bit PNG become RGB") {
  const Image grey = decode_image(test::kGreyPng, "grey.png");
  CHECK(grey.pixels == std::vector<uint8_t>{10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40});
  const Image alpha = decode_image(test::kAlphaPng, "alpha.png");
  CHECK(alpha.pixels == std::vector<uint8_t>{1, 2, 3, 4, 5, 6});
  const Image deep = decode_image(test::kDeepPng, "deep.png");
  CHECK(deep.pixels == std::vector<uint8_t>{0x12, 0x80, 0xFF});
}

TEST_CASE("image: a PNG survives writing and reading") {
  const test::TemporaryFolder folder;
  const Image image = test::pattern(37, 21, 3);
  save_png(folder / "sub/a.png", image);
  CHECK(largest_difference(load_image(folder / "sub/a.png"), image) == 0);
  const ImageSize size = image_size(folder / "sub/a.png");
  CHECK(size.width == 37);
  CHECK(size.height == 21);
  CHECK_THAT(error_of([&] { save_png(folder / "b.png", Image{}); }), Contains("b.png"));
  CHECK_FALSE(std::filesystem::exists(folder / "b.png"));
}

TEST_CASE("image: bad files give one error that names them") {
  const test::TemporaryFolder folder;
  auto write = [&](const char* name, std::string_view bytes) {
    test::write_file(folder / name, bytes);
    return folder / name;
  };
  auto message = [&](const std::filesystem::path& p) {
    const std::string text = error_of([&] { load_image(p); });
    CHECK_THAT(text, Contains(p.filename().string()));
    CHECK(text.find('\n') == std::string::npos);
    return text;
  };
  const std::string_view jpeg = test::as_text(test::kJpeg);
  CHECK_THAT(message(folder / "absent.jpg"), Contains("cannot be opened"));
  CHECK_THAT(error_of([&] { image_size(folder / "absent.jpg"); }), Contains("no such file"));
  CHECK_THAT(message(folder.path()), Contains("folder"));
  CHECK_THAT(message(write("empty.jpg", "")), Contains("empty"));
  CHECK_THAT(message(write("text.jpg", "not an image at all")), Contains("neither a JPEG nor"));
  CHECK_THAT(message(write("cut.jpg", jpeg.substr(0, jpeg.size() - 20))), Contains("cut off"));
  CHECK_THAT(message(write("cut_header.jpg", jpeg.substr(0, 100))), Contains("header is broken"));
  CHECK_THAT(message(write("huge.png", test::as_text(test::kHugePng))), Contains("60000"));
  CHECK_THAT(message(write("wide.png", test::as_text(test::kWidePng))), Contains("30000x30000"));
  CHECK_THAT(message(write("zero.png", test::as_text(test::kZeroPng))), Contains("size 0x5"));
  const std::string_view png = test::as_text(test::kGreyPng);
  CHECK_THAT(message(write("cut.png", png.substr(0, png.size() - 16))),
             Contains("does not decode"));
  // Every length of a cut file is refused, none crashes.
  for (size_t n = 0; n < jpeg.size(); ++n) {
    const auto part = std::span(test::kJpeg).first(n);
    CHECK(error_of([&] { decode_image(part, "part.jpg"); }) != "no error");
  }
}

TEST_CASE("image: any flipped byte of a JPEG decodes or is refused") {
  std::vector<uint8_t> bytes(std::begin(test::kJpeg), std::end(test::kJpeg));
  Rng rng(5);
  for (size_t k = 0; k < bytes.size(); ++k) {
    const uint8_t before = bytes[k];
    bytes[k] = static_cast<uint8_t>(rng.below(256));
    const std::string text = error_of([&] {
      const Image image = decode_image(bytes, "flipped.jpg");
      CHECK(static_cast<int64_t>(image.pixels.size()) == image.pitch() * image.height);
    });
    CHECK((text == "no error" || text.starts_with("flipped.jpg: ")));
    bytes[k] = before;
  }
}

TEST_CASE("image: a JPEG with an impossible Huffman table is refused") {
  std::vector<uint8_t> bytes(std::begin(test::kJpeg), std::end(test::kJpeg));
  const std::array<uint8_t, 2> marker{0xFF, 0xC4};
  const auto table = std::ranges::search(bytes, marker);
  REQUIRE_FALSE(table.empty());
  // More values than the segment holds, and more than a table can have.
  *(table.begin() + 5 + 15) = 200;
  CHECK_THAT(error_of([&] { decode_image(bytes, "bad.jpg"); }), Contains("bad.jpg: the image"));
  std::fill_n(table.begin() + 5, 16, uint8_t{255});
  CHECK_THAT(error_of([&] { decode_image(bytes, "bad.jpg"); }), Contains("bad.jpg: the image"));
}

TEST_CASE("image: a JPEG with damaged data is refused") {
  // A gradient, so that every block has coefficients to damage.
  Image image = make_image(64, 64);
  for (int y = 0; y < 64; ++y)
    for (int x = 0; x < 64; ++x) image.row(y)[3 * x + y % 3] = static_cast<uint8_t>(4 * x ^ 3 * y);
  const test::TemporaryFolder folder;
  save_jpeg(folder / "whole.jpg", image, 95);
  std::vector<uint8_t> bytes = read_bytes(folder / "whole.jpg");
  CHECK(error_of([&] { decode_image(bytes, "whole.jpg"); }) == "no error");
  // The end marker comes while half of the blocks are missing.
  bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(bytes.size() / 2), bytes.end() - 2);
  CHECK_THAT(error_of([&] { decode_image(bytes, "half.jpg"); }),
             Contains("half.jpg: the image does not decode (Corrupt JPEG data"));
}

TEST_CASE("image: a JPEG decoded at a fraction of its size is the mean of its pixels") {
  // 48 x 33: one side is not divisible.
  Image image = make_image(48, 33);
  for (int y = 0; y < 33; ++y)
    for (int x = 0; x < 48; ++x)
      for (int c = 0; c < 3; ++c) image.row(y)[3 * x + c] = static_cast<uint8_t>(4 * x + 2 * y);
  const test::TemporaryFolder folder;
  save_jpeg(folder / "slope.jpg", image, 100);
  const auto bytes = read_bytes(folder / "slope.jpg");
  for (const int n : {1, 2, 4, 8}) {
    const Image small = jpeg_decode(bytes, jpeg_header(bytes, "slope"), "slope", n);
    REQUIRE(small.width == 48 / n);
    REQUIRE(small.height == (33 + n - 1) / n);
    for (int y = 0; y < 33 / n; ++y)
      for (int x = 0; x < small.width; ++x) {
        const int mean = 4 * n * x + 2 * n * y + 3 * (n - 1);
        CHECK(std::abs(small.row(y)[3 * x] - mean) <= 4);
      }
  }
}

TEST_CASE("image: a JPEG that is to be resized is decoded no larger than it has to be") {
  const test::TemporaryFolder folder;
  save_jpeg(folder / "a.jpg", make_image(100, 60, 90));
  save_png(folder / "a.png", make_image(100, 60, 90));
  const auto width = [&](const char* file, int w, int h) {
    const auto bytes = read_bytes(folder / file);
    const ReducedImage r = decode_reduced(bytes, file, {w, h});
    CHECK(r.full == ImageSize{100, 60});
    CHECK(r.image.pixels == make_image(r.image.width, r.image.height, 90).pixels);
    return r.image.width;
  };
  CHECK(width("a.jpg", 51, 30) == 100);
  CHECK(width("a.jpg", 50, 30) == 50);
  CHECK(width("a.jpg", 50, 31) == 100);
  CHECK(width("a.jpg", 25, 15) == 25);
  CHECK(width("a.jpg", 1, 1) == 13);
  CHECK(width("a.jpg", 1000, 600) == 100);
  CHECK(width("a.png", 1, 1) == 100);
}

TEST_CASE("image: a JPEG of four inks, as Adobe writes them and as the standard has them") {
  // Cyan and half black: red 0, green and blue half.
  for (const bool adobe : {true, false}) {
    const Image image = decode_image(cmyk_jpeg({255, 0, 0, 128}, adobe), "inks.jpg");
    REQUIRE(image.width == 16);
    CHECK(std::abs(image.row(3)[9] - 0) <= 2);
    CHECK(std::abs(image.row(3)[10] - 127) <= 2);
    CHECK(std::abs(image.row(3)[11] - 127) <= 2);
  }
}

TEST_CASE("image: metadata larger than the read-ahead") {
  // Four comment segments of 60,000 bytes, one holding an end marker, before the rest.
  std::vector<uint8_t> bytes{0xFF, 0xD8};
  for (int k = 0; k < 4; ++k) {
    bytes.insert(bytes.end(), {0xFF, 0xFE, 60000 >> 8, 60000 & 255});
    bytes.resize(bytes.size() + 59998, 0xD9);
    bytes[bytes.size() - 100] = 0xFF;
  }
  bytes.insert(bytes.end(), std::begin(test::kJpeg) + 2, std::end(test::kJpeg));
  const test::TemporaryFolder folder;
  test::write_file(folder / "long.jpg", test::as_text(bytes));
  const ImageSize size = image_size(folder / "long.jpg");
  CHECK(size.width == 16);
  CHECK(largest_difference(load_image(folder / "long.jpg"), decode_image(test::kJpeg, "x")) == 0);
  bytes.resize(bytes.size() - 4);
  CHECK_THAT(error_of([&] { decode_image(bytes, "long.jpg"); }), Contains("cut off"));
}

TEST_CASE("image: names") {
  CHECK(is_image_name("a.JPG"));
  CHECK(is_image_name("b/a.jpeg"));
  CHECK(is_image_name("a.Png"));
  CHECK_FALSE(is_image_name("a.txt"));
  CHECK_FALSE(is_image_name("png"));
}

TEST_CASE("resize: small cases by hand") {
  const Image image{2, 2, {0, 10, 20, 100, 110, 120, 40, 50, 60, 200, 210, 220}};
  CHECK(largest_difference(resize_bilinear(image, 2, 2), image) == 0);
  // Halving both sides: the mean of four, rounded up from a half.
  CHECK(resize_bilinear(image, 1, 1).pixels == std::vector<uint8_t>{85, 95, 105});
  CHECK(resize_area(image, 1, 1).pixels == std::vector<uint8_t>{85, 95, 105});
  // Growing along x: half-pixel centres, so 1/4 and 3/4 between the two.
  const Image wide = resize_bilinear(image, 4, 2);
  CHECK(std::vector<uint8_t>(wide.pixels.begin(), wide.pixels.begin() + 12) ==
        std::vector<uint8_t>{0, 10, 20, 25, 35, 45, 75, 85, 95, 100, 110, 120});
  const Image flat = make_image(13, 7, 114);
  CHECK(largest_difference(resize_bilinear(flat, 40, 3), make_image(40, 3, 114)) == 0);
  CHECK(largest_difference(resize_area(flat, 5, 3), make_image(5, 3, 114)) == 0);
  CHECK_THAT(error_of([&] { resize_bilinear(flat, 0, 3); }), Contains("0x3"));
  CHECK_THAT(error_of([] { resize_area(Image{}, 2, 2); }), Contains("empty"));
}

TEST_CASE("resize: equals OpenCV's, bit for bit") {
  SEXTANT_REQUIRE_FIXTURE(f, "post/letterbox_image");
  const Image image = test::image_from_bgr(f.at("input.image"));
  const auto check = [&](const std::string& prefix, Image (*resize)(const Image&, int, int)) {
    for (const std::string& size : test::parts_of_names(f, prefix, "")) {
      CAPTURE(prefix, size);
      const Image expected = test::image_from_bgr(f.at(prefix + size));
      CHECK(largest_difference(resize(image, expected.width, expected.height), expected) == 0);
    }
  };
  check("output.resize_linear.", resize_bilinear);
  check("output.resize_area.", resize_area);
}
