// SPDX-License-Identifier: Apache-2.0
#include "data/drawing/plot.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "data/drawing/chart.h"
#include "data/drawing/font.h"

namespace sextant::data {
namespace {

using namespace chart;

// Beside the ring, on the side that has room; names of neighbours may overlap.
void draw_marks(Chart& c, const std::vector<Mark>& marks) {
  const Rect& a = c.layout.area;
  const double cap = c.layout.text;
  for (const Mark& m : marks) {
    const double x = c.px(m.x), y = c.py(m.y);
    if (!(x >= a.x0 && x <= a.x1 && y >= a.y0 && y <= a.y1)) continue;
    draw_dot(c.image, {x, y}, 1.6 * cap, kInk);
    draw_dot(c.image, {x, y}, 1.1 * cap, kPaper);
    draw_dot(c.image, {x, y}, 0.7 * cap, series_color(1));
    const double width = text_width(m.name, cap);
    const double left = x + 1.4 * cap + width <= a.x1 ? x + 1.4 * cap : x - 1.4 * cap - width;
    draw_text(c.image, left, y - 0.8 * cap, m.name, {cap, 1, kInk, 1});
  }
}

}  // namespace

Image draw_line_plot(const PlotSpec& spec) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  std::vector<Series> series = spec.series;
  double x0 = kInf, x1 = -kInf, y0 = kInf, y1 = -kInf;
  for (Series& s : series) {
    if (s.x.empty())
      for (size_t i = 0; i < s.y.size(); ++i) s.x.push_back(static_cast<double>(i));
    check(s.x.size() == s.y.size(), "plot: series '{}' has {} x and {} y values", s.name,
          s.x.size(), s.y.size());
    range_of(s.x, x0, x1);
    range_of(s.y, y0, y1);
  }
  const Axis y = make_axis({spec.y_min.value_or(y0), spec.y_max.value_or(y1),
                            spec.y_min.has_value(), spec.y_max.has_value()},
                           6);
  const double head = head_of(spec.width, spec.height, series, !spec.y_label.empty());
  Chart c = make_chart(
      spec.width, spec.height,
      make_axis({spec.x_min.value_or(x0), spec.x_max.value_or(x1), true, true, spec.whole_x}, 10),
      y, !spec.x_label.empty(), head);
  draw_grid(c, true);
  const double width = std::max(1.5, 2.2 * c.layout.scale);
  struct Dot {
    Point at;
    double diameter;
    Color color;
  };
  std::vector<Dot> dots;
  for (size_t i = 0; i < series.size(); ++i) {
    const Color color = series[i].color.value_or(series_color(i));
    std::vector<Point> run;
    const auto flush = [&] {
      if (run.size() == 1) dots.push_back({run[0], 2.5 * width, color});
      stroke(c.image, run, width * series[i].weight, color);
      run.clear();
    };
    for (size_t k = 0; series[i].line && k < series[i].y.size(); ++k) {
      if (std::isfinite(series[i].x[k]) && std::isfinite(series[i].y[k]))
        run.push_back({c.px(series[i].x[k]), c.py(series[i].y[k])});
      else
        flush();
    }
    flush();
    for (size_t k = 0; series[i].dots && k < series[i].y.size(); ++k)
      if (std::isfinite(series[i].x[k]) && std::isfinite(series[i].y[k]))
        dots.push_back({{c.px(series[i].x[k]), c.py(series[i].y[k])}, 3.2 * width, color});
  }
  draw_frame(c, spec.title, spec.y_label);
  // After the frame, which would cut those at the edge.
  const Rect& a = c.layout.area;
  for (const Dot& d : dots)
    if (d.at.x >= a.x0 - 0.5 && d.at.x <= a.x1 + 0.5 && d.at.y >= a.y0 - 0.5 &&
        d.at.y <= a.y1 + 0.5)
      draw_dot(c.image, d.at, d.diameter, d.color);
  draw_marks(c, spec.marks);
  draw_x_ticks(c);
  draw_x_label(c, spec.x_label);
  draw_legend(&c.image, spec.width, series, c.layout.text, 4.4 * c.layout.text);
  return std::move(c.image);
}

Image draw_bar_plot(const BarSpec& spec) {
  double low = 0, high = 0;
  for (const Series& s : spec.series) {
    check(s.y.size() == spec.groups.size(), "plot: series '{}' has {} values for {} groups", s.name,
          s.y.size(), spec.groups.size());
    range_of(s.y, low, high);
  }
  const double groups = std::max<double>(1, static_cast<double>(spec.groups.size()));
  const double head = head_of(spec.width, spec.height, spec.series, !spec.y_label.empty());
  Chart c = make_chart(spec.width, spec.height, {0, groups, 1},
                       make_axis({low, high, false, false, spec.whole_y}, 6), !spec.x_label.empty(),
                       head);
  draw_grid(c, false);
  const double bars = std::max<double>(1, static_cast<double>(spec.series.size()));
  const double bar = 0.76 / bars;
  for (size_t i = 0; i < spec.series.size(); ++i)
    for (size_t g = 0; g < spec.groups.size(); ++g) {
      const double v = spec.series[i].y[g];
      if (!std::isfinite(v)) continue;
      const double left = static_cast<double>(g) + 0.12 + static_cast<double>(i) * bar;
      fill_rect(c.image,
                {c.px(left), std::min(c.py(v), c.py(0)), c.px(left + bar * 0.94),
                 std::max(c.py(v), c.py(0))},
                series_color(i));
    }
  draw_frame(c, spec.title, spec.y_label);
  if (low < 0) fill_rect(c.image, {c.layout.area.x0, c.py(0), c.layout.area.x1, c.py(0) + 1}, kInk);
  const double cap = c.layout.text;
  double free_from = 0;  // names that would overlap the previous one are left out
  for (size_t g = 0; g < spec.groups.size(); ++g) {
    const double centre = c.px(static_cast<double>(g) + 0.5);
    const double half = text_width(spec.groups[g], cap) / 2;
    if (centre - half < free_from || centre + half > spec.width) continue;
    centred(c.image, centre, c.layout.area.y1 + 2.2 * cap, spec.groups[g], cap, kInk);
    free_from = centre + half + cap;
  }
  draw_x_label(c, spec.x_label);
  draw_legend(&c.image, spec.width, spec.series, cap, 4.4 * cap);
  return std::move(c.image);
}

Image draw_rank_plot(const RankSpec& spec) {
  check(spec.values.size() == spec.names.size(), "plot: {} values for {} names", spec.values.size(),
        spec.names.size());
  check(spec.marked.empty() || spec.marked.size() == spec.names.size(),
        "plot: {} marks for {} names", spec.marked.size(), spec.names.size());
  check(spec.width >= 160, "plot: a width of {} is too small, must be at least 160", spec.width);
  const double cap = std::max(7.0, std::round(10.0 * std::min(1.0, spec.width / 800.0)));
  const double row = std::round(2.1 * cap);
  const double n = std::max<double>(1, static_cast<double>(spec.names.size()));
  double low = 0, high = 0;
  range_of(spec.values, low, high);
  std::vector<std::string> names;
  double room = 0;
  for (const std::string& name : spec.names) {
    names.push_back(shortened(name, cap, 0.4 * spec.width));
    room = std::max(room, text_width(names.back(), cap));
  }
  const double top = std::round(5.2 * cap);
  Chart c{
      filled_image(spec.width, static_cast<int>(top + n * row + 6.2 * cap), kPaper), {}, {}, {}};
  c.layout = {
      {std::round(room + 2.4 * cap), top, std::round(spec.width - 3.0 * cap), top + n * row},
      cap,
      1};
  c.x = make_axis({low, high, false, false}, 6);
  c.y = {n, 0, 1};  // from the top down
  const Rect& a = c.layout.area;
  for (const double t : c.x.ticks()) {
    const double x = std::round(c.px(t));
    fill_rect(c.image, {x, a.y0, x + 1, a.y1}, kGrid);
    centred(c.image, x, a.y1 + 2.2 * cap, c.x.text(t), cap, kInk);
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const double y = c.py(static_cast<double>(i));
    draw_text(c.image, a.x0 - cap - text_width(names[i], cap), y + row / 2 + cap / 2, names[i],
              {cap, 1, kInk, 1});
    if (!std::isfinite(spec.values[i])) continue;
    const double end = c.px(spec.values[i]), zero = c.px(0);
    fill_rect(c.image, {std::min(zero, end), y + 0.15 * row, std::max(zero, end), y + 0.85 * row},
              series_color(!spec.marked.empty() && spec.marked[i] ? 1 : 0));
  }
  const double zero = std::round(c.px(0));
  fill_rect(c.image, {zero, a.y0, zero + 1, a.y1}, kFaint);
  const double big = std::round(cap * 1.3);
  draw_text(c.image, cap * 1.2, cap + big, spec.title, {big, 1.25, kInk, 1});
  centred(c.image, (a.x0 + a.x1) / 2, c.image.height - 1.2 * cap, spec.x_label, cap, kFaint);
  return std::move(c.image);
}

void save_line_plot(const std::filesystem::path& path, const PlotSpec& spec) {
  save_png(path, draw_line_plot(spec));
}

void save_bar_plot(const std::filesystem::path& path, const BarSpec& spec) {
  save_png(path, draw_bar_plot(spec));
}

void save_rank_plot(const std::filesystem::path& path, const RankSpec& spec) {
  save_png(path, draw_rank_plot(spec));
}

}  // namespace sextant::data
