#pragma once

#include <string>

#include "core/json.h"

namespace sextant::bench {

struct StepOptions {
  int64_t batch = 16, classes = 80;
  int image_size = 320, runs = 7;
  std::string mode = "repvgg";
};

// A training step of YOLOv6-N in its parts.
Json train_step(const StepOptions& o);

}  // namespace sextant::bench
