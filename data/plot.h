// Small charts as pictures: training curves, sensitivity bars.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/image.h"

namespace sextant::data {

struct Series {
  std::string name;       // in the legend; empty: not listed
  std::vector<double> x;  // empty: 0, 1, 2, ...
  std::vector<double> y;  // a value that is not finite leaves a gap
};

struct PlotSpec {
  std::string title;
  std::string x_label;
  std::string y_label;  // written above the axis
  std::vector<Series> series;
  int width = 900;
  int height = 540;
  // The axis covers the values, rounded out to ticks, unless given here.
  std::optional<double> y_min, y_max;
};

struct BarSpec {
  std::string title;
  std::string y_label;
  std::vector<std::string> groups;  // below the axis
  std::vector<Series> series;       // y: one value per group; x is not used
  int width = 900;
  int height = 540;
};

// Axes with ticks at 1, 2 or 5 times a power of ten, grid, legend. Throws Error naming the series
// when x and y differ in length, or the picture is smaller than 160 x 120. No data at all gives
// empty axes.
Image draw_line_plot(const PlotSpec& spec);
// Bars from 0, side by side within each group. Throws Error when a series has not one value per
// group.
Image draw_bar_plot(const BarSpec& spec);
// As PNG, atomically.
void save_line_plot(const std::filesystem::path& path, const PlotSpec& spec);
void save_bar_plot(const std::filesystem::path& path, const BarSpec& spec);

}  // namespace sextant::data
