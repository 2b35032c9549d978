// SPDX-License-Identifier: Apache-2.0
// Options shared by several commands.
#pragma once

#include <optional>
#include <string>

#include "apps/cli/command_line.h"
#include "deploy/detect/choices.h"

namespace sextant::apps {

// --img SIZE; 0: as trained.
struct ImageSize {
  int value = 0;
  // Throws Error naming the option for a size that does not fit the graph.
  int choose(const deploy::Graph& graph) const;
};
Option add_image_size_option(Command command, ImageSize& size);
// MODEL
Option add_model_argument(Command command, std::string& path);
// --data DATA
Option add_data_option(Command command, std::string& path);
// --device
Option add_device_option(Command command, deploy::DeviceChoice& device);
// --precision
Option add_precision_option(Command command, std::optional<deploy::Precision>& precision);

}  // namespace sextant::apps
