// SPDX-License-Identifier: Apache-2.0
// What all charts share: axes with ticks, the area they enclose, frame, legend and titles.
#pragma once

#include <string>
#include <vector>

#include "data/drawing/canvas.h"
#include "data/drawing/plot.h"

namespace sextant::data::chart {

inline constexpr Color kPaper{255, 255, 255};
inline constexpr Color kInk{35, 38, 45};
inline constexpr Color kFaint{110, 115, 125};
inline constexpr Color kGrid{228, 231, 236};

// Distinguishable by brightness, in print and for the colour-blind.
Color series_color(size_t i);

// An axis from `low` to `high` with ticks `step` apart, both ends on a tick unless they were given.
struct Axis {
  double low = 0, high = 1, step = 0.2;

  std::vector<double> ticks() const;
  std::string text(double v) const;
};

// The range of an axis; an end that was given (`fixed`) is not rounded out to a tick. `whole`: ticks
// at whole numbers only.
struct Range {
  double low, high;
  bool fixed_low, fixed_high;
  bool whole = false;
};
// About `count` ticks at 1, 2 or 5 times a power of ten. A range without a finite value, or of a
// single one, is widened.
Axis make_axis(Range r, double count);

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

// Cap height of the text of a chart of this size. Throws Error below 160 x 120.
double text_height(int width, int height);
// The plot area: `head` cap heights for title, legend and y label above it, ticks left and below.
Chart make_chart(int width, int height, const Axis& x, const Axis& y, bool has_x_label,
                 double head);
// Cap heights from the top to the area, legend rows included.
double head_of(int width, int height, const std::vector<Series>& series, bool y_label);

void draw_grid(Chart& c, bool vertical);
// Paints over everything outside the area, then writes the title and the labels of the y axis.
void draw_frame(Chart& c, const std::string& title, const std::string& y_label);
void draw_x_ticks(Chart& c);
void draw_x_label(Chart& c, const std::string& label);
// Rows from the left, the first on the baseline `y`; returns the last baseline. A null image only
// measures.
double draw_legend(Image* image, int width, const std::vector<Series>& series, double cap,
                   double y);

void centred(Image& image, double x, double baseline, const std::string& text, double cap,
             Color color);
void draw_dot(Image& image, Point p, double diameter, Color color);
// Shortened to at most `room` pixels: "backbone.ER...conv1.rbr_reparam".
std::string shortened(const std::string& name, double cap, double room);
// Widens [low, high] to the values that are finite.
void range_of(const std::vector<double>& values, double& low, double& high);

}  // namespace sextant::data::chart
