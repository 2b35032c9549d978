// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "data/drawing/canvas.h"
#include "data/drawing/plot.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;

namespace {

constexpr Color kFirst{31, 99, 196};  // of the first series
constexpr Color kSecond{222, 96, 32};

// Rows from `from` on between which column x holds about the colour; {-1, -1} when it does not.
std::pair<int, int> rows_of(const Image& image, int x, Color c, int from) {
  std::pair<int, int> out{-1, -1};
  for (int y = from; y < image.height; ++y) {
    const uint8_t* p = image.row(y) + x * 3;
    // Thin slanted lines are lighter than their colour.
    if (std::abs(p[0] - c.r) + std::abs(p[1] - c.g) + std::abs(p[2] - c.b) > 120) continue;
    if (out.first < 0) out.first = y;
    out.second = y;
  }
  return out;
}

}  // namespace

TEST_CASE("a line plot is a PNG of the requested size that shows the curves") {
  PlotSpec spec;
  spec.title = "Loss";
  spec.x_label = "epoch";
  spec.width = 400;
  spec.height = 300;
  spec.series = {{"rising", {}, {0, 1, 2, 3, 4}}, {"flat", {0, 4}, {2, 2}}};
  const test::TemporaryFolder folder;
  save_line_plot(folder / "p.png", spec);
  const Image image = load_image(folder / "p.png");
  REQUIRE(image.width == 400);
  REQUIRE(image.height == 300);
  CHECK(image.pixels == draw_line_plot(spec).pixels);
  const auto left = rows_of(image, 120, kFirst, 60), right = rows_of(image, 330, kFirst, 60);
  REQUIRE(left.first > 0);
  REQUIRE(right.first > 0);
  CHECK(left.first > right.first + 50);
  const auto flat_left = rows_of(image, 120, kSecond, 60);
  const auto flat_right = rows_of(image, 330, kSecond, 60);
  REQUIRE(flat_left.first > 0);
  CHECK(flat_left == flat_right);
  CHECK(flat_left.second - flat_left.first <= 3);
}

TEST_CASE("values that are not finite leave a gap, limits cut the curve") {
  PlotSpec spec;
  spec.width = 400;
  spec.height = 300;
  const double nan = std::nan("");
  spec.series = {{"", {}, {1, 1, nan, 1, 1}}};
  const Image gap = draw_line_plot(spec);
  CHECK(rows_of(gap, 70, kFirst, 0).first > 0);
  CHECK(rows_of(gap, 210, kFirst, 0).first == -1);
  CHECK(rows_of(gap, 360, kFirst, 0).first > 0);

  spec.series = {{"", {}, {0, 100, 0}}};
  spec.y_min = 0;
  spec.y_max = 1;
  const Image cut = draw_line_plot(spec);
  CHECK(rows_of(cut, 210, kFirst, 0).first == -1);
  for (int x = 0; x < 400; ++x)
    for (int y = 0; y < 20; ++y) CHECK(cut.row(y)[x * 3] == 255);
}

TEST_CASE("plots of nothing, of one point, of equal and of huge values") {
  PlotSpec spec;
  CHECK(draw_line_plot(spec).width == 900);
  spec.series = {{"none", {}, {}}, {"nan", {}, {std::nan("")}}};
  CHECK(draw_line_plot(spec).height == 540);
  for (const double v : {0.0, 3.0, -2e9, 1e-30, 1e300}) {
    spec.series = {{"", {}, {v}}};
    bool found = false;
    const Image image = draw_line_plot(spec);
    for (int x = 0; x < image.width; ++x) found |= rows_of(image, x, kFirst, 0).first >= 0;
    INFO(v);
    CHECK(found);
  }
  spec.series = {{"", {}, {1e308, -1e308}}};
  CHECK(draw_line_plot(spec).width == 900);
  spec.series = {{"", {}, {2e9, 3e9}}};  // outside the given ends
  spec.y_max = 1;
  CHECK(draw_line_plot(spec).width == 900);
  CHECK(draw_bar_plot({}).width == 900);
}

TEST_CASE("bars are as high as their values") {
  BarSpec spec;
  spec.width = 400;
  spec.height = 300;
  spec.groups = {"a", "b"};
  spec.series = {{"", {}, {1, 2}}};
  const test::TemporaryFolder folder;
  save_bar_plot(folder / "b.png", spec);
  const Image image = load_image(folder / "b.png");
  const auto a = rows_of(image, 120, kFirst, 0), b = rows_of(image, 300, kFirst, 0);
  REQUIRE(a.first > 0);
  REQUIRE(b.first > 0);
  CHECK(a.second == b.second);
  CHECK(b.second - b.first == Approx(2 * (a.second - a.first)).margin(2));
}

TEST_CASE("plots refuse data that does not fit, by name") {
  PlotSpec spec;
  spec.series = {{"loss", {1, 2}, {1, 2, 3}}};
  CHECK(test::error_of([&] { draw_line_plot(spec); }) ==
        "plot: series 'loss' has 2 x and 3 y values");
  spec.series = {};
  spec.width = 100;
  CHECK(test::error_of([&] { draw_line_plot(spec); }) ==
        "plot: a picture of 100 x 540 is too small, must be at least 160 x 120");
  BarSpec bars;
  bars.groups = {"a"};
  bars.series = {{"drop", {}, {}}};
  CHECK(test::error_of([&] { draw_bar_plot(bars); }) ==
        "plot: series 'drop' has 0 values for 1 groups");
}

TEST_CASE("a rank plot has one bar for each name, with the length of its value") {
  RankSpec spec;
  spec.title = "Sensitivity";
  spec.x_label = "noise";
  spec.names = {"backbone.stem", "a", std::string(300, 'x'), "none"};
  spec.values = {4, 2, 1, std::nan("")};
  spec.marked = {false, true, false, false};
  spec.width = 600;
  const test::TemporaryFolder folder;
  save_rank_plot(folder / "r.png", spec);
  const Image image = load_image(folder / "r.png");
  CHECK(image.pixels == draw_rank_plot(spec).pixels);
  REQUIRE(image.width == 600);
  // by colour, the pixels of each row, and from which row to which
  struct Bar {
    int pixels = 0, y = 0;
  };
  const auto bars = [&](Color c) {
    std::vector<Bar> out;
    bool in_bar = false;
    for (int y = 0; y < image.height; ++y) {
      int n = 0;
      for (int x = 0; x < image.width; ++x) {
        const uint8_t* p = image.row(y) + x * 3;
        n += p[0] == c.r && p[1] == c.g && p[2] == c.b;
      }
      if (n > 10 && !in_bar) out.push_back({n, y});
      if (n > 10) out.back().pixels = std::max(out.back().pixels, n);
      in_bar = n > 10;
    }
    return out;
  };
  const auto first = bars(kFirst), second = bars(kSecond);
  REQUIRE(first.size() == 2);
  REQUIRE(second.size() == 1);
  CHECK(first[0].pixels == Approx(4 * first[1].pixels).margin(6));
  CHECK(second[0].pixels == Approx(2 * first[1].pixels).margin(4));
  CHECK(first[0].y < second[0].y);
  CHECK(second[0].y < first[1].y);
  CHECK(second[0].y - first[0].y == first[1].y - second[0].y);
  // the longest name leaves the bars more than half of the picture
  CHECK(first[0].pixels > 280);

  spec.values = {-1, 1, 0, 0};
  CHECK(draw_rank_plot(spec).height == image.height);
  spec.names.clear();
  spec.values.clear();
  spec.marked.clear();
  CHECK(draw_rank_plot(spec).width == 600);
  spec.names = {"a"};
  CHECK(test::error_of([&] { draw_rank_plot(spec); }) == "plot: 0 values for 1 names");
}

TEST_CASE("a line plot with dots, and a ring around a point") {
  PlotSpec spec;
  spec.width = 400;
  spec.height = 300;
  spec.series = {{"", {0, 1, 2}, {0, 5, 10}}};
  const auto count = [](const Image& image, Color c) {
    int n = 0;
    for (size_t i = 0; i < image.pixels.size(); i += 3)
      n += image.pixels[i] == c.r && image.pixels[i + 1] == c.g && image.pixels[i + 2] == c.b;
    return n;
  };
  const int plain = count(draw_line_plot(spec), kFirst);
  spec.series[0].dots = true;
  const Image dotted = draw_line_plot(spec);
  CHECK(count(dotted, kFirst) > plain + 12);
  CHECK(count(dotted, kSecond) == 0);
  spec.series[0].line = false;
  const int dots = count(draw_line_plot(spec), kFirst);
  CHECK(dots > 10);
  CHECK(dots < plain / 2);
  spec.series[0].line = true;
  spec.marks = {{1, 5, "chosen"}};
  const Image marked = draw_line_plot(spec);
  // its middle lies on the curve
  double x = 0, y = 0;
  for (int i = 0; i < 400 * 300; ++i)
    if (Color{marked.pixels[i * 3u], marked.pixels[i * 3u + 1], marked.pixels[i * 3u + 2]} ==
        kSecond) {
      x += i % 400;
      y += i / 400;
    }
  REQUIRE(count(marked, kSecond) > 3);
  x /= count(marked, kSecond);
  y /= count(marked, kSecond);
  const auto curve = rows_of(dotted, static_cast<int>(std::lround(x)), kFirst, 0);
  REQUIRE(curve.first > 0);
  CHECK(y == Approx(0.5 * (curve.first + curve.second)).margin(2));
  CHECK(x == Approx(215).margin(30));
  CHECK(marked.pixels != dotted.pixels);
  spec.marks = {{7, 5, "outside"}, {1, std::nan(""), "nowhere"}};
  CHECK(draw_line_plot(spec).pixels == dotted.pixels);
}

TEST_CASE("points at the edge are whole, and what is counted has whole ticks") {
  PlotSpec spec;
  spec.width = 400;
  spec.height = 300;
  spec.series = {{"", {1, 2, 3}, {0, 0.5, 1}, false, true}};
  spec.y_min = 0;
  spec.y_max = 1;
  const Image image = draw_line_plot(spec);
  // The pixels of each dot: left, middle and right third.
  int pixels[3] = {0, 0, 0};
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) {
      const uint8_t* p = image.row(y) + x * 3;
      if (std::abs(p[0] - kFirst.r) + std::abs(p[1] - kFirst.g) + std::abs(p[2] - kFirst.b) < 60)
        ++pixels[x * 3 / image.width];
    }
  CHECK(pixels[1] > 8);
  CHECK(3 * pixels[0] > 2 * pixels[1]);  // half of it would be cut
  CHECK(3 * pixels[2] > 2 * pixels[1]);

  // Epochs 1 to 3: fewer labels below the axis than with ticks at fractions.
  const auto ink_below = [](const PlotSpec& s) {
    const Image picture = draw_line_plot(s);
    int ink = 0;
    for (int y = picture.height - 22; y < picture.height; ++y)
      for (int x = 0; x < picture.width; ++x) ink += picture.row(y)[x * 3] < 200;
    return ink;
  };
  PlotSpec whole = spec;
  whole.whole_x = true;
  CHECK(ink_below(whole) > 0);
  CHECK(3 * ink_below(whole) < 2 * ink_below(spec));
}

TEST_CASE("a heat plot darkens with its values, names its cells, and refuses what does not fit") {
  HeatSpec spec;
  spec.width = 400;
  spec.height = 300;
  spec.columns = spec.rows = 2;
  spec.values = {0, 1, 4, std::nan("")};
  spec.digits = 0;
  const Image image = draw_heat_plot(spec);
  // A quarter into each cell, beside its number.
  const auto at = [&](const Image& picture, double x, double y) {
    return static_cast<int>(picture.row(static_cast<int>(y))[static_cast<int>(x) * 3]);
  };
  CHECK(at(image, 90, 90) == 255);
  CHECK(at(image, 330, 220) == 255);
  CHECK(at(image, 330, 90) < 255);
  CHECK(at(image, 90, 220) < at(image, 330, 90));
  spec.upwards = true;
  const Image turned = draw_heat_plot(spec);
  CHECK(at(turned, 90, 90) == at(image, 90, 220));
  spec.upwards = false;
  spec.column_names = {"cat", std::string(80, 'x')};
  spec.row_names = {"cat", "dog"};
  CHECK(draw_heat_plot(spec).width == 400);
  spec.row_names = {"cat"};
  CHECK(test::error_of([&] { draw_heat_plot(spec); }) == "plot: 1 names for 2 cells");
  spec.values = {1};
  CHECK(test::error_of([&] { draw_heat_plot(spec); }) == "plot: 1 values for 2 x 2 cells");
}
