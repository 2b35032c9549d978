// SPDX-License-Identifier: Apache-2.0
#include "data/drawing/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "data/drawing/canvas.h"
#include "data/drawing/font.h"

namespace sextant::data {
namespace {

constexpr Color kPaper{255, 255, 255};
constexpr Color kInk{35, 38, 45};
constexpr Color kFaint{110, 115, 125};
constexpr Color kGrid{228, 231, 236};

// Distinguishable by brightness, in print and for the colour-blind.
Color series_color(size_t i) {
  constexpr Color kColors[] = {{31, 99, 196},  {222, 96, 32},  {34, 146, 92},  {196, 48, 84},
                               {126, 84, 186}, {20, 158, 178}, {150, 116, 20}, {96, 104, 118}};
  return kColors[i % std::size(kColors)];
}

// An axis from `low` to `high` with ticks `step` apart, both ends on a tick unless they were given.
struct Axis {
  double low = 0, high = 1, step = 0.2;

  std::vector<double> ticks() const {
    std::vector<double> out;
    for (double k = std::ceil(low / step - 1e-6); k <= high / step + 1e-6; ++k)
      out.push_back(k * step);
    return out;
  }
  std::string text(double v) const {
    if (std::max(std::abs(low), std::abs(high)) >= 1e6 || step < 1e-5)
      return fmt::format("{:.3g}", std::abs(v) < step / 2 ? 0.0 : v);
    const int digits = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
    return fmt::format("{:.{}f}", std::abs(v) < step / 2 ? 0.0 : v, digits);
  }
};

// The number of form {1, 2, 5} * 10^k next above range / count.
double nice_step(double range, double count) {
  const double raw = range / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double m : {1.0, 2.0, 5.0})
    if (m * power >= raw * (1 - 1e-9)) return m * power;
  return 10 * power;
}

// The range of an axis; an end that was given (`fixed`) is not rounded out to a tick.
struct Range {
  double low, high;
  bool fixed_low, fixed_high;
};

Axis make_axis(Range r, double count) {
  if (!(r.low <= r.high)) {  // no finite value, or none within the given ends
    if (std::isfinite(r.low))
      r.high = r.low + 1;
    else if (std::isfinite(r.high))
      r.low = r.high - 1;
    else
      r.low = 0, r.high = 1;
  }
  if (r.high - r.low < 1e-12 * std::max(std::abs(r.low), std::abs(r.high)) || r.high == r.low) {
    const double margin = r.low == 0 ? 1 : std::abs(r.low) * 0.5;
    r.high = r.low + margin;
    if (r.low != 0) r.low -= margin;
  }
  Axis a{r.low, r.high, nice_step(r.high - r.low, count)};
  if (!r.fixed_low) a.low = std::floor(r.low / a.step + 1e-6) * a.step;
  if (!r.fixed_high) a.high = std::ceil(r.high / a.step - 1e-6) * a.step;
  return a;
}

struct Layout {
  Rect area;     // of the curves
  double text;   // cap height
  double scale;  // 1 at 540 pixels of height
};

struct Chart {
  Image image;
  Layout layout;
  Axis x, y;
  double px(double v) const {
    return layout.area.x0 + (v - x.low) / (x.high - x.low) * (layout.area.x1 - layout.area.x0);
  }
  double py(double v) const {
    return layout.area.y1 - (v - y.low) / (y.high - y.low) * (layout.area.y1 - layout.area.y0);
  }
};

void centred(Image& image, double x, double baseline, const std::string& text, double cap,
             Color color) {
  draw_text(image, x - text_width(text, cap) / 2, baseline, text, {cap, 1, color, 1});
}

// Computes the plot area: title, legend and y label above it, ticks left and below.
Chart make_chart(int width, int height, const Axis& x, const Axis& y, bool has_x_label,
                 double head) {
  check(width >= 160 && height >= 120,
        "plot: a picture of {} x {} is too small, must be at least 160 x 120", width, height);
  Chart c{filled_image(width, height, kPaper), {}, x, y};
  Layout& l = c.layout;
  l.scale = std::min(height / 540.0, width / 800.0);
  l.text = std::max(7.0, std::round(10 * l.scale));
  double labels = 0;
  for (const double t : y.ticks()) labels = std::max(labels, text_width(y.text(t), l.text));
  l.area = {std::round(labels + 2.8 * l.text), std::round(head * l.text),
            std::round(width - 2.2 * l.text),
            std::round(height - (has_x_label ? 5.2 : 3.2) * l.text)};
  return c;
}

void draw_grid(Chart& c, bool vertical) {
  const Rect& a = c.layout.area;
  for (const double t : c.y.ticks()) {
    const double y = std::round(c.py(t));
    fill_rect(c.image, {a.x0, y, a.x1, y + 1}, kGrid);
  }
  if (!vertical) return;
  for (const double t : c.x.ticks()) {
    const double x = std::round(c.px(t));
    fill_rect(c.image, {x, a.y0, x + 1, a.y1}, kGrid);
  }
}

// Paints over everything outside the area, then writes the labels there.
void draw_frame(Chart& c, const std::string& title, const std::string& y_label) {
  Rect a = c.layout.area;
  const double w = c.image.width, h = c.image.height, cap = c.layout.text;
  const double edge = 2 * c.layout.scale;  // half a line may lie on the border
  fill_rect(c.image, {0, 0, w, a.y0 - edge}, kPaper);
  fill_rect(c.image, {0, a.y1 + edge, w, h}, kPaper);
  fill_rect(c.image, {0, 0, a.x0 - edge, h}, kPaper);
  fill_rect(c.image, {a.x1 + edge, 0, w, h}, kPaper);
  fill_rect(c.image, {a.x0, a.y0, a.x0 + 1, a.y1 + 1}, kFaint);
  fill_rect(c.image, {a.x0, a.y1, a.x1 + 1, a.y1 + 1}, kFaint);
  for (const double t : c.y.ticks()) {
    const double y = std::round(c.py(t));
    fill_rect(c.image, {a.x0 - cap * 0.5, y, a.x0, y + 1}, kFaint);
    const std::string s = c.y.text(t);
    draw_text(c.image, a.x0 - cap - text_width(s, cap), y + cap / 2, s, {cap, 1, kInk, 1});
  }
  const double big = std::round(cap * 1.3);
  draw_text(c.image, cap * 1.2, cap + big, title, {big, 1.25, kInk, 1});
  draw_text(c.image, cap * 1.2, a.y0 - cap, y_label, {cap, 1, kFaint, 1});
}

// Right-aligned rows, the first on the baseline `y`.
double draw_legend(Image* image, int width, const std::vector<Series>& series, double cap,
                   double y) {
  const double left = cap * 1.2;
  double x = left;
  for (size_t i = 0; i < series.size(); ++i) {
    if (series[i].name.empty()) continue;
    const double length = 2.6 * cap + text_width(series[i].name, cap);
    if (x > left && x + length > width - cap) {
      x = left;
      y += 2 * cap;
    }
    if (image) {
      fill_rounded_rect(*image, {x, y - 0.75 * cap, x + 1.8 * cap, y - 0.25 * cap}, cap / 4,
                        series_color(i));
      draw_text(*image, x + 2.5 * cap, y, series[i].name, {cap, 1, kInk, 1});
    }
    x += length + 2 * cap;
  }
  return y;
}

// Cap heights from the top to the area, legend rows included.
double head_of(int width, int height, const std::vector<Series>& series, bool y_label) {
  const double cap = std::max(7.0, std::round(10 * std::min(height / 540.0, width / 800.0)));
  const bool listed =
      std::any_of(series.begin(), series.end(), [](const Series& s) { return !s.name.empty(); });
  const double rows = draw_legend(nullptr, width, series, cap, 0) / cap;
  return 3.4 + (listed ? 2 + rows : 0) + (y_label ? 2.2 : 0.4);
}

void draw_dot(Image& image, Point p, double diameter, Color color) {
  stroke(image, std::span<const Point>(&p, 1), diameter, color);
}

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

// Shortened to at most `room`: "backbone.ER...conv1.rbr_reparam".
std::string shortened(const std::string& name, double cap, double room) {
  if (text_width(name, cap) <= room) return name;
  for (size_t keep = name.size(); keep-- > 2;) {
    const std::string s =
        name.substr(0, keep / 3) + "..." + name.substr(name.size() - keep + keep / 3);
    if (text_width(s, cap) <= room) return s;
  }
  return "...";
}

void range_of(const std::vector<double>& values, double& low, double& high) {
  for (const double v : values)
    if (std::isfinite(v)) {
      low = std::min(low, v);
      high = std::max(high, v);
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
  Chart c = make_chart(spec.width, spec.height, make_axis({x0, x1, true, true}, 10), y,
                       !spec.x_label.empty(), head);
  draw_grid(c, true);
  const double width = std::max(1.5, 2.2 * c.layout.scale);
  for (size_t i = 0; i < series.size(); ++i) {
    std::vector<Point> run;
    const auto flush = [&] {
      if (run.size() == 1) stroke(c.image, run, 2.5 * width, series_color(i));
      stroke(c.image, run, width, series_color(i));
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
        draw_dot(c.image, {c.px(series[i].x[k]), c.py(series[i].y[k])}, 3.2 * width,
                 series_color(i));
  }
  draw_frame(c, spec.title, spec.y_label);
  draw_marks(c, spec.marks);
  const double cap = c.layout.text;
  for (const double t : c.x.ticks()) {
    const double px = std::round(c.px(t));
    fill_rect(c.image, {px, c.layout.area.y1, px + 1, c.layout.area.y1 + cap * 0.5}, kFaint);
    centred(c.image, px, c.layout.area.y1 + 2.2 * cap, c.x.text(t), cap, kInk);
  }
  centred(c.image, (c.layout.area.x0 + c.layout.area.x1) / 2, spec.height - 1.2 * cap, spec.x_label,
          cap, kFaint);
  draw_legend(&c.image, spec.width, series, cap, 4.4 * cap);
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
                       make_axis({low, high, false, false}, 6), false, head);
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
