// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/json.h"

namespace sextant::bench {

struct ConvOptions {
  std::string preset = "yolov6n_opt", kind = "forward";
  int64_t batch = 1;
  int image_size = 640, runs = 20;
  bool all_algorithms = false;
};

// Prints a table: the convolutions of a model, each kind of layer once, ours and oneDNN's in turns;
// the smallest time of each. Returns the sums over the model's layers.
Json convolutions(const ConvOptions& o);

}  // namespace sextant::bench
