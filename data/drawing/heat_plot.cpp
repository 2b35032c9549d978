// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "data/drawing/chart.h"
#include "data/drawing/font.h"
#include "data/drawing/plot.h"

namespace sextant::data {
namespace {

using namespace chart;

constexpr Color kMost{12, 60, 130};

// Small values stay visible beside large ones.
Color heat(double v, double most) {
  if (!std::isfinite(v) || v <= 0 || most <= 0) return kPaper;
  return mix({226, 236, 248}, kMost, std::sqrt(v / most));
}

// Turned by a quarter, reading upwards, with its end at (x, y): for long names under narrow columns.
void draw_upright(Image& image, double x, double y, const std::string& text, double cap) {
  const int w = static_cast<int>(std::ceil(text_width(text, cap))) + 2;
  const int h = static_cast<int>(std::ceil(1.6 * cap)) + 2;
  Image line = filled_image(w, h, kPaper);
  draw_text(line, 1, 1 + cap, text, {cap, 1, kInk, 1});
  const int left = static_cast<int>(x - 0.5 * cap) - 1, top = static_cast<int>(y);
  for (int j = 0; j < h; ++j)
    for (int i = 0; i < w; ++i) {
      const uint8_t* p = line.row(j) + int64_t{3} * i;
      blend(image, left + j, top + w - 1 - i, {p[0], p[1], p[2]}, 1);
    }
}

bool names_fit(const std::vector<std::string>& names, double cell) {
  return !names.empty() && cell >= 8;
}

// Of names `name` pixels high in cells of `cell` pixels: one in how many is drawn.
int64_t every_name(double name, double cell) {
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(name / cell)));
}

}  // namespace

Image draw_heat_plot(const HeatSpec& spec) {
  check(spec.columns > 0 && spec.rows > 0 && std::ssize(spec.values) == spec.columns * spec.rows,
        "plot: {} values for {} x {} cells", spec.values.size(), spec.rows, spec.columns);
  for (const auto& [names, n] :
       {std::pair{&spec.column_names, spec.columns}, std::pair{&spec.row_names, spec.rows}})
    check(names->empty() || std::ssize(*names) == n, "plot: {} names for {} cells", names->size(),
          n);
  const double cap = text_height(spec.width, spec.height);
  const double columns = static_cast<double>(spec.columns), rows = static_cast<double>(spec.rows);
  const bool named_x = !spec.column_names.empty(), named_y = !spec.row_names.empty();
  Axis x{0, columns, columns}, y{rows, 0, rows};
  if (!named_x) x = make_axis({spec.x_low, spec.x_high, true, true}, 6);
  if (!named_y) y = make_axis({spec.y_low, spec.y_high, true, true}, 6);
  if (!named_y && !spec.upwards) std::swap(y.low, y.high);
  // Room for the names, of which the longest lose their middle.
  const double most_room = 0.22 * std::min(spec.width, spec.height);
  double left = 0, below = 0;
  for (const auto& n : spec.row_names)
    left = std::max(left, std::min(most_room, text_width(n, cap)));
  for (const auto& n : spec.column_names)
    below = std::max(below, std::min(most_room, text_width(n, cap)));
  const double head = spec.y_label.empty() ? 3.8 : 5.6;
  Axis plain{0, 1, 1};
  Chart c = make_chart(spec.width, spec.height, plain, plain, !spec.x_label.empty(), head);
  c.x = x;
  c.y = y;
  Rect& a = c.layout.area;
  if (named_y) a.x0 = std::round(left + 2.4 * cap);
  const double cell = (a.x1 - a.x0) / columns;
  const bool upright = named_x && below + cap > cell;
  if (upright) a.y1 = std::round(spec.height - below - (spec.x_label.empty() ? 2.2 : 4.4) * cap);

  const double most = *std::ranges::max_element(spec.values, [](double p, double q) {
    return (std::isfinite(p) ? p : 0) < (std::isfinite(q) ? q : 0);
  });
  const double cw = (a.x1 - a.x0) / columns, ch = (a.y1 - a.y0) / rows;
  for (int64_t r = 0; r < spec.rows; ++r)
    for (int64_t k = 0; k < spec.columns; ++k) {
      const double v = spec.values[static_cast<size_t>(r * spec.columns + k)];
      const auto row = static_cast<double>(spec.upwards ? spec.rows - 1 - r : r);
      const Rect box{std::round(a.x0 + static_cast<double>(k) * cw), std::round(a.y0 + row * ch),
                     std::round(a.x0 + static_cast<double>(k + 1) * cw),
                     std::round(a.y0 + (row + 1) * ch)};
      const Color color = heat(v, most);
      if (color != kPaper) fill_rect(c.image, box, color);
      if (spec.digits < 0 || !std::isfinite(v) || v == 0) continue;
      const std::string text = fmt::format("{:.{}f}", v, spec.digits);
      if (text_width(text, cap) + 4 > cw || 1.5 * cap > ch) continue;
      centred(c.image, (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2 + cap / 2, text, cap,
              luminance(color) > 0.55 ? kInk : kPaper);
    }
  stroke_rect(c.image, {a.x0 - 1, a.y0 - 1, a.x1 + 1, a.y1 + 1}, 1, kFaint);

  const double big = std::round(cap * 1.3);
  draw_text(c.image, cap * 1.2, cap + big, spec.title, {big, 1.25, kInk, 1});
  draw_text(c.image, cap * 1.2, a.y0 - cap, spec.y_label, {cap, 1, kFaint, 1});
  if (named_y && names_fit(spec.row_names, ch))
    for (int64_t r = 0; r < spec.rows; r += every_name(1.3 * cap, ch)) {
      const std::string name = shortened(spec.row_names[static_cast<size_t>(r)], cap, left);
      draw_text(c.image, a.x0 - cap - text_width(name, cap),
                a.y0 + (static_cast<double>(r) + 0.5) * ch + cap / 2, name, {cap, 1, kInk, 1});
    }
  if (named_x && names_fit(spec.column_names, cw))
    for (int64_t k = 0; k < spec.columns; k += every_name(1.3 * cap, cw)) {
      const std::string name = shortened(spec.column_names[static_cast<size_t>(k)], cap, below);
      const double centre = a.x0 + (static_cast<double>(k) + 0.5) * cw;
      if (upright)
        draw_upright(c.image, centre, a.y1 + 0.7 * cap, name, cap);
      else
        centred(c.image, centre, a.y1 + 2.2 * cap, name, cap, kInk);
    }
  if (!named_y)
    for (const double t : Axis{spec.y_low, spec.y_high, c.y.step}.ticks()) {
      const std::string s = c.y.text(t);
      draw_text(c.image, a.x0 - cap - text_width(s, cap), c.py(t) + cap / 2, s, {cap, 1, kInk, 1});
    }
  if (!named_x) draw_x_ticks(c);
  draw_x_label(c, spec.x_label);
  return std::move(c.image);
}

}  // namespace sextant::data
