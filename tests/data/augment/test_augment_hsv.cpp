// SPDX-License-Identifier: Apache-2.0
// Colour conversions and jitter against OpenCV's.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/augment/hsv.h"
#include "data/images.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::largest_difference;

namespace {

// OpenCV takes 32 columns at a time with vector instructions, which cut off. In the rest of a row
// it rounds, where floats decide about exact halves.
void check_against_opencv(const Image& got, const Image& expected) {
  REQUIRE(got.pixels.size() == expected.pixels.size());
  int64_t wrong = 0;
  int64_t halves = 0;
  for (int y = 0; y < got.height; ++y)
    for (int x = 0; x < 3 * got.width; ++x) {
      const int d = got.row(y)[x] - expected.row(y)[x];
      const bool rounded = x >= 3 * (got.width / 32 * 32);
      if (d != 0 && d != 1) ++wrong;
      if (rounded && d == 1) ++halves;
    }
  CHECK(wrong == 0);
  CHECK(halves <= static_cast<int64_t>(got.pixels.size()) / 100);
}

}  // namespace

TEST_CASE("hsv: plain colours") {
  const std::vector<uint8_t> rgb{255, 0,   0,   0, 255, 0, 0,   0,   255,
                                 128, 128, 128, 0, 0,   0, 255, 255, 0};
  std::vector<uint8_t> hsv(rgb.size());
  rgb_to_hsv(rgb.data(), hsv.data(), 6);
  CHECK(hsv == std::vector<uint8_t>{0, 255, 255, 60, 255, 255, 120, 255, 255, 0, 0, 128, 0, 0, 0,
                                    30, 255, 255});
  std::vector<uint8_t> back(rgb.size());
  hsv_to_rgb(hsv.data(), back.data(), 6);
  CHECK(back == rgb);
}

TEST_CASE("hsv: every hue, saturation and value against the formula") {
  double worst = 0;
  for (int h = 0; h < 180; ++h)
    for (int s = 0; s < 256; ++s)
      for (int v = 0; v < 256; v += 3) {
        const uint8_t hsv[3] = {static_cast<uint8_t>(h), static_cast<uint8_t>(s),
                                static_cast<uint8_t>(v)};
        uint8_t rgb[3];
        hsv_to_rgb(hsv, rgb, 1);
        // The channel at angle 0, 240 or 120 degrees from red: v - v s max(0, min(k, 4 - k, 1)).
        for (int c = 0; c < 3; ++c) {
          const double k = std::fmod(5.0 - 2 * c + h / 30.0, 6.0);
          const double expected = v - v * (s / 255.0) * std::max(0.0, std::min({k, 4.0 - k, 1.0}));
          worst = std::max(worst, std::abs(rgb[c] - expected));
        }
      }
  CHECK(worst <= 0.5 + 1e-9);
}

TEST_CASE("hsv: tables") {
  const HsvTables t = hsv_tables(1.5, 1.7, 0.6);
  CHECK(int{t.hue[100]} == 150);
  CHECK(int{t.hue[150]} == 45);  // 225 - 180
  CHECK(int{t.saturation[200]} == 255);
  CHECK(int{t.value[255]} == 153);
  // Neutral factors change nothing but what the round trip itself rounds.
  Image image = test::pattern(31, 17, 4);
  const Image before = image;
  apply_hsv(hsv_tables(1, 1, 1), image.pixels.data(), 31 * 17);
  CHECK(largest_difference(image, before) <= 6);
}

TEST_CASE("hsv: OpenCV's conversions") {
  SEXTANT_REQUIRE_FIXTURE(f, "data/hsv");
  const Image image = test::image_from_bgr(f.at("input.image"));
  const int64_t n = int64_t{image.width} * image.height;
  std::vector<uint8_t> hsv(image.pixels.size());
  rgb_to_hsv(image.pixels.data(), hsv.data(), n);
  const auto expected = f.at("output.bgr2hsv").span<uint8_t>();
  CHECK(std::memcmp(hsv.data(), expected.data(), expected.size()) == 0);
  Image back = image;
  hsv_to_rgb(hsv.data(), back.pixels.data(), n);
  check_against_opencv(back, test::image_from_bgr(f.at("output.hsv2bgr_of_bgr2hsv")));
  const Tensor& grid = f.at("input.hsv_grid");
  Image colours = make_image(1, static_cast<int>(grid.dim(0)));
  hsv_to_rgb(grid.data<uint8_t>(), colours.pixels.data(), grid.dim(0));
  check_against_opencv(colours, test::image_from_bgr(f.at("output.hsv_grid_bgr")));
}

TEST_CASE("hsv: official augment_hsv") {
  SEXTANT_REQUIRE_FIXTURE(f, "data/hsv");
  for (const std::string& id : test::parts_of_names(f, "", ".output.r")) {
    INFO(id);
    const double* g = f.at(id + ".output.r").data<double>();
    const HsvTables t = hsv_tables(g[0], g[1], g[2]);
    auto same = [&](const std::array<uint8_t, 256>& table, const std::string& which) {
      CHECK(std::memcmp(table.data(), f.at(id + ".output.lut_" + which).raw(), 256) == 0);
    };
    same(t.hue, "hue");
    same(t.saturation, "sat");
    same(t.value, "val");
    Image image = test::image_from_bgr(f.at("input.image"));
    apply_hsv(t, image.pixels.data(), int64_t{image.width} * image.height);
    check_against_opencv(image, test::image_from_bgr(f.at(id + ".output.image")));
  }
}
