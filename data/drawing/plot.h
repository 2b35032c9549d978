// SPDX-License-Identifier: Apache-2.0
// Charts: curves, bars, rankings, and tables of numbers as colours.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/drawing/canvas.h"
#include "data/image/image.h"

namespace sextant::data {

struct Series {
  std::string name;                           // in the legend; empty: not listed
  std::vector<double> x;                      // empty: 0, 1, 2, ...
  std::vector<double> y;                      // values that are not finite leave a gap
  bool line = true;                           // line plots: connect the values
  bool dots = false;                          // line plots: a dot at each value
  double weight = 1;                          // line plots: of the line
  std::optional<Color> color = std::nullopt;  // line plots; else by its place in the list
};

// A ring around a point of a line plot, with a name beside it.
struct Mark {
  double x = 0, y = 0;
  std::string name;
};

struct PlotSpec {
  std::string title;
  std::string x_label;
  std::string y_label;  // written above the axis
  std::vector<Series> series;
  int width = 900;
  int height = 540;
  // If not given, the axis covers the values, rounded out to ticks.
  std::optional<double> y_min, y_max;
  std::optional<double> x_min, x_max;  // if not given, the x axis ends with the values
  bool whole_x = false;                // x counts something: ticks at whole numbers only
  std::vector<Mark> marks;             // drawn only if within the axes
};

struct BarSpec {
  std::string title;
  std::string y_label;
  std::string x_label;              // below the names of the groups
  bool whole_y = false;             // y counts something
  std::vector<std::string> groups;  // below the axis
  std::vector<Series> series;       // y: one value per group; x is not used
  int width = 900;
  int height = 540;
};

// One horizontal bar for each name, from the top down: for many or long names.
struct RankSpec {
  std::string title;
  std::string x_label;
  std::vector<std::string> names;
  std::vector<double> values;  // values that are not finite have no bar
  std::vector<bool> marked;    // bars in the second colour; empty: none
  int width = 900;             // the height follows from the number of names
};

// A table of numbers as colours, from white to dark: a confusion matrix, or counts in cells of a
// plane.
struct HeatSpec {
  std::string title, x_label, y_label;
  int64_t columns = 0, rows = 0;
  std::vector<double> values;  // by row, not negative; a value that is not finite is white
  // Of the cells: names, or none and then axes with these ends.
  std::vector<std::string> column_names, row_names;
  double x_low = 0, x_high = 1, y_low = 0, y_high = 1;
  bool upwards = false;  // the first row is at the bottom
  int digits = -1;       // numbers are written into the cells, where they fit; -1: none
  int width = 900, height = 540;
};

// Axes with ticks at 1, 2 or 5 times a power of ten, grid, legend. Throws Error naming the series
// when x and y differ in length, or the picture is smaller than 160 x 120. Without data the axes
// are empty.
Image draw_line_plot(const PlotSpec& spec);
// Bars from 0, side by side within each group. Throws Error unless each series has one value per
// group.
Image draw_bar_plot(const BarSpec& spec);
// Bars from 0; a name longer than two fifths of the picture loses its middle. Throws Error unless
// each name has one value (and one mark, if any).
Image draw_rank_plot(const RankSpec& spec);
// Throws Error unless there are rows * columns values, and as many names as rows or columns, if any.
Image draw_heat_plot(const HeatSpec& spec);
// Writes a PNG atomically.
void save_line_plot(const std::filesystem::path& path, const PlotSpec& spec);
void save_bar_plot(const std::filesystem::path& path, const BarSpec& spec);
void save_rank_plot(const std::filesystem::path& path, const RankSpec& spec);

}  // namespace sextant::data
