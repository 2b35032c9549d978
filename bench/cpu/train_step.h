// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/json.h"
#include "models/yolov6_config.h"

namespace sextant::bench {

struct StepOptions {
  int64_t batch = 16, classes = 80;
  int image_size = 320, runs = 7;
  TrainingMode mode = TrainingMode::kRepVGG;
};

// A training step of YOLOv6-N in its parts.
Json train_step(const StepOptions& o);

}  // namespace sextant::bench
