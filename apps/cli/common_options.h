// SPDX-License-Identifier: Apache-2.0
// Options shared by several commands.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "apps/cli/command_line.h"
#include "data/dataset/dataset.h"
#include "deploy/detect/choices.h"

namespace sextant::apps {

// --img SIZE or HEIGHT,WIDTH; empty: as trained.
struct ImageSize {
  std::string text;
  // The height, which Graph::width_for() takes: "HEIGHT,WIDTH" becomes the graph's own size. Throws
  // Error naming the option for a size that does not fit the graph.
  int choose(deploy::Graph& graph) const;
  // For commands that take one size, unless the model's own is not a square.
  int choose_side(const deploy::Graph& graph) const;
};
// Throws Error naming the option. {0, 0}: empty; {SIZE, 0}: a square.
std::array<int, 2> height_and_width(const std::string& text, const std::string& option);
Option add_image_size_option(Command command, ImageSize& size);
// --conf: a number, or what the last `sextant eval --record` wrote into the model: "best", where the
// mean F1 of the classes is best, or "best-per-class", where each class's is.
struct Confidence {
  std::string text;
  struct Chosen {
    float all = 0;                // the least of all classes
    std::vector<float> by_class;  // empty: all
  };
  // Throws Error naming the option, or the model and the way to a threshold.
  Chosen choose(const deploy::Graph& graph) const;
};
Option add_confidence_option(Command command, Confidence& conf);
// MODEL
Option add_model_argument(Command command, std::string& path);
// For people: the last part of its path, split and size.
std::string data_title(const data::Dataset& dataset);
// --data DATA
Option add_data_option(Command command, std::string& path);
// --device
Option add_device_option(Command command, deploy::DeviceChoice& device);
// --precision
Option add_precision_option(Command command, std::optional<deploy::Precision>& precision);

}  // namespace sextant::apps
