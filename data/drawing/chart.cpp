// SPDX-License-Identifier: Apache-2.0
#include "data/drawing/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "data/drawing/font.h"

namespace sextant::data::chart {
namespace {

// The number of form {1, 2, 5} * 10^k next above range / count.
double nice_step(double range, double count) {
  const double raw = range / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double m : {1.0, 2.0, 5.0})
    if (m * power >= raw * (1 - 1e-9)) return m * power;
  return 10 * power;
}

}  // namespace

std::vector<double> Axis::ticks() const {
  std::vector<double> out;
  for (double k = std::ceil(low / step - 1e-6); k <= high / step + 1e-6; ++k)
    out.push_back(k * step);
  return out;
}

std::string Axis::text(double v) const {
  if (std::max(std::abs(low), std::abs(high)) >= 1e6 || step < 1e-5)
    return fmt::format("{:.3g}", std::abs(v) < step / 2 ? 0.0 : v);
  const int digits = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  return fmt::format("{:.{}f}", std::abs(v) < step / 2 ? 0.0 : v, digits);
}

double text_height(int width, int height) {
  check(width >= 160 && height >= 120,
        "plot: a picture of {} x {} is too small, must be at least 160 x 120", width, height);
  return std::max(7.0, std::round(10 * std::min(height / 540.0, width / 800.0)));
}

Color series_color(size_t i) {
  constexpr Color kColors[] = {{31, 99, 196},  {222, 96, 32},  {34, 146, 92},  {196, 48, 84},
                               {126, 84, 186}, {20, 158, 178}, {150, 116, 20}, {96, 104, 118}};
  return kColors[i % std::size(kColors)];
}

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
  if (r.whole) a.step = std::max(1.0, std::round(a.step));
  if (!r.fixed_low) a.low = std::floor(r.low / a.step + 1e-6) * a.step;
  if (!r.fixed_high) a.high = std::ceil(r.high / a.step - 1e-6) * a.step;
  return a;
}

void centred(Image& image, double x, double baseline, const std::string& text, double cap,
             Color color) {
  draw_text(image, x - text_width(text, cap) / 2, baseline, text, {cap, 1, color, 1});
}

Chart make_chart(int width, int height, const Axis& x, const Axis& y, bool has_x_label,
                 double head) {
  Chart c{filled_image(width, height, kPaper), {}, x, y};
  Layout& l = c.layout;
  l.scale = std::min(height / 540.0, width / 800.0);
  l.text = text_height(width, height);
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

double head_of(int width, int height, const std::vector<Series>& series, bool y_label) {
  const double cap = text_height(width, height);
  const bool listed =
      std::any_of(series.begin(), series.end(), [](const Series& s) { return !s.name.empty(); });
  const double rows = draw_legend(nullptr, width, series, cap, 0) / cap;
  return 3.4 + (listed ? 2 + rows : 0) + (y_label ? 2.2 : 0.4);
}

void draw_dot(Image& image, Point p, double diameter, Color color) {
  stroke(image, std::span<const Point>(&p, 1), diameter, color);
}

void draw_x_ticks(Chart& c) {
  const double cap = c.layout.text;
  for (const double t : c.x.ticks()) {
    const double px = std::round(c.px(t));
    fill_rect(c.image, {px, c.layout.area.y1, px + 1, c.layout.area.y1 + cap * 0.5}, kFaint);
    centred(c.image, px, c.layout.area.y1 + 2.2 * cap, c.x.text(t), cap, kInk);
  }
}

void draw_x_label(Chart& c, const std::string& label) {
  const double cap = c.layout.text;
  centred(c.image, (c.layout.area.x0 + c.layout.area.x1) / 2, c.image.height - 1.2 * cap, label,
          cap, kFaint);
}

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

}  // namespace sextant::data::chart
