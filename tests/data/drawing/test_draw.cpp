// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "data/drawing/draw.h"
#include "data/drawing/font.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;

namespace {

constexpr Color kGround{120, 120, 120};

Color at(const Image& image, int x, int y) {
  const uint8_t* p = image.row(y) + x * 3;
  return {p[0], p[1], p[2]};
}

// The bounding box of the pixels that differ from the ground; empty when x0 > x1.
Rect touched(const Image& image) {
  Rect r{1e9, 1e9, -1, -1};
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      if (at(image, x, y) != kGround)
        r = {std::min<double>(r.x0, x), std::min<double>(r.y0, y), std::max<double>(r.x1, x + 1),
             std::max<double>(r.y1, y + 1)};
  return r;
}

}  // namespace

TEST_CASE("primitives cover parts of pixels and clip") {
  Image image = filled_image(20, 10, {0, 0, 0});
  fill_rect(image, {2.5, 3, 5, 4}, {200, 100, 50});
  CHECK(at(image, 2, 3) == Color{100, 50, 25});
  CHECK(at(image, 3, 3) == Color{200, 100, 50});
  CHECK(at(image, 5, 3) == Color{0, 0, 0});
  CHECK(at(image, 3, 4) == Color{0, 0, 0});
  fill_rect(image, {-100, -100, 1, 1}, {9, 9, 9});
  CHECK(at(image, 0, 0) == Color{9, 9, 9});
  CHECK(at(image, 1, 0) == Color{0, 0, 0});

  // A line that goes there and back is blended once.
  Image line = filled_image(20, 10, {0, 0, 0});
  const Point points[] = {{2, 5.5}, {18, 5.5}, {2, 5.5}};
  stroke(line, points, 1, {200, 200, 200}, 0.5);
  CHECK(at(line, 10, 5) == Color{100, 100, 100});
  CHECK(at(line, 10, 7) == Color{0, 0, 0});
  const Point off[] = {{-1e300, 0}, {std::nan(""), 5}};
  const Image before = line;
  stroke(line, off, 3, {255, 255, 255});
  CHECK(line.pixels == before.pixels);

  CHECK(from_hsv(0, 1, 1) == Color{255, 0, 0});
  CHECK(from_hsv(1.0 / 3, 1, 1) == Color{0, 255, 0});
  CHECK(from_hsv(-1.0 / 3, 1, 1) == Color{0, 0, 255});
  CHECK(from_hsv(0.4, 0, 0.5) == Color{128, 128, 128});
}

TEST_CASE("text stays in its line and all glyphs differ") {
  std::set<std::string> pictures;
  for (char c = '!'; c <= '~'; ++c) {
    INFO(c);
    Image image = filled_image(60, 60, kGround);
    const std::string text(1, c);
    draw_text(image, 20, 36, text, {16, 1, {0, 0, 0}, 1});
    const Rect r = touched(image);
    REQUIRE(r.x0 <= r.x1);
    CHECK(r.x0 >= 18);
    CHECK(r.x1 <= 20 + text_width(text, 16) + 3);
    CHECK(r.y0 >= 36 - 16 - 2);
    CHECK(r.y1 <= 36 + 6 + 3);
    pictures.insert(std::string(image.pixels.begin(), image.pixels.end()));
  }
  CHECK(pictures.size() == 94);
  Image image = filled_image(60, 60, kGround);
  draw_text(image, 20, 36, "   ", {16, 1, {0, 0, 0}, 1});
  CHECK(touched(image).x0 > touched(image).x1);
}

TEST_CASE("text outside ASCII becomes question marks") {
  const auto drawn = [](const std::string& text) {
    Image image = filled_image(120, 40, kGround);
    draw_text(image, 5, 25, text, {12, 1, {0, 0, 0}, 1});
    return image.pixels;
  };
  CHECK(drawn("Zelle") != drawn("Z?lle"));
  CHECK(drawn("h\xC3\xB6he") == drawn("h?he"));      // two bytes
  CHECK(drawn("\xE7\x8C\xAB x") == drawn("? x"));    // three
  CHECK(drawn("\xF0\x9F\x90\x88!") == drawn("?!"));  // four
  CHECK(drawn("a\xFF\x80z\x07") == drawn("a??z?"));  // no UTF-8, a control character
  CHECK(drawn("a\xE7\x8C") == drawn("a??"));         // cut short
  CHECK(text_width("\xC3\xB6", 12) == text_width("?", 12));
  CHECK(text_width("", 12) == 0);
  CHECK(text_width("ab", 24) == Approx(2 * text_width("ab", 12)).margin(4));
}

TEST_CASE("detections change only the pixels of their frame and tag") {
  Image image = filled_image(320, 240, kGround);
  const std::vector<LabelledBox> boxes{{{100, 80, 200, 160}, 2, "cell", 0.5}};
  const DrawStyle style = resolve_style({}, 320, 240);
  draw_detections(image, boxes);
  const Rect r = touched(image);
  CHECK(r.x0 == 99);
  CHECK(r.x1 == 201);
  CHECK(r.y1 == 161);
  CHECK(r.y0 < 80);
  CHECK(r.y0 >= 80 - 3 * style.cap_height);
  CHECK(at(image, 150, 120) == kGround);
  CHECK(at(image, 150, 159) == class_color(2));
  CHECK(at(image, 199, 120) == class_color(2));
  // Frame: line_width of colour, a dark hairline on both sides, the ground beyond.
  const int w = static_cast<int>(style.line_width);
  CHECK(at(image, 100 + w, 120) != class_color(2));
  CHECK(at(image, 100 + w + 1, 120) == kGround);

  Image bare = filled_image(320, 240, kGround);
  DrawStyle plain;
  plain.labels = false;
  draw_detections(bare, boxes, plain);
  CHECK(touched(bare).y0 == 79);
  Image nameless = filled_image(320, 240, kGround);
  draw_detections(nameless, std::vector<LabelledBox>{{{100, 80, 200, 160}, 2, "", -1}});
  CHECK(nameless.pixels == bare.pixels);
}

TEST_CASE("detections at and beyond the border") {
  Image image = filled_image(100, 80, kGround);
  constexpr double kInf = std::numeric_limits<double>::infinity();
  draw_detections(image, std::vector<LabelledBox>{{{-50, -50, -1, -1}, 0, "a", 0.9},
                                                  {{100, 0, 130, 30}, 0, "a", 0.9},
                                                  {{std::nan(""), 0, 30, 30}, 0, "a", 0.9},
                                                  {{0, 0, kInf, 30}, 0, "a", 0.9},
                                                  {{30, 30, 10, 10}, 0, "a", 0.9}});
  CHECK(touched(image).x0 > touched(image).x1);

  // Cut at the border, the tag moved inside.
  draw_detections(image, std::vector<LabelledBox>{{{60, -20, 1000, 50}, 1, "long label", 0.9}});
  CHECK(at(image, 99, 40) == class_color(1));
  CHECK(at(image, 80, 49) == class_color(1));
  CHECK(touched(image).y0 == 0);
  CHECK(touched(image).y1 == 51);
  CHECK(touched(image).x0 >= 0);

  // A tag wider than the picture, boxes without extent, negative classes: no harm.
  Image tiny = filled_image(12, 9, kGround);
  draw_detections(tiny, std::vector<LabelledBox>{{{3, 3, 3, 3}, -7, "a very long name", 1.0},
                                                 {{0, 0, 12, 9}, 1000000, "x", 0.1}});
  CHECK(touched(tiny).x0 <= touched(tiny).x1);
}

TEST_CASE("better scores are drawn over worse ones") {
  const LabelledBox low{{20, 20, 60, 60}, 0, "", 0.2}, high{{20, 20, 60, 60}, 1, "", 0.8};
  for (const auto& boxes : {std::vector{low, high}, std::vector{high, low}}) {
    Image image = filled_image(100, 100, kGround);
    DrawStyle style;
    style.labels = false;
    draw_detections(image, boxes, style);
    CHECK(at(image, 40, 20) == class_color(1));
  }
}

TEST_CASE("class colours differ, lines grow with the picture") {
  std::set<std::tuple<int, int, int>> colors;
  for (int i = 0; i < 80; ++i) {
    const Color c = class_color(i);
    colors.insert({c.r, c.g, c.b});
  }
  CHECK(colors.size() == 80);
  for (int i = 0; i < 10; ++i)
    for (int j = 0; j < i; ++j) {
      const Color a = class_color(i), b = class_color(j);
      CHECK(std::abs(a.r - b.r) + std::abs(a.g - b.g) + std::abs(a.b - b.b) > 60);
    }
  CHECK(resolve_style({}, 1920, 1080).line_width > resolve_style({}, 320, 240).line_width);
  CHECK(resolve_style({}, 1920, 1080).cap_height > resolve_style({}, 320, 240).cap_height);
  DrawStyle mine;
  mine.line_width = 7;
  CHECK(resolve_style(mine, 320, 240).line_width == 7);
}
