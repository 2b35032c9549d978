// SPDX-License-Identifier: Apache-2.0
// Models of the presets with random weights, on whose values times do not depend.
#pragma once

#include <string>

#include "deploy/graph/graph.h"

namespace sextant::apps {

// The deployed form of "yolov6n_opt", "yolov6s_opt", ...
deploy::Graph preset_graph(const std::string& preset);
// The same with a range for every tensor and weight, as quantization would set them.
deploy::Graph quantized_preset_graph(const std::string& preset);

}  // namespace sextant::apps
