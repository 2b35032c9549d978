// How a command calibrates a model that has no ranges yet.
#pragma once

#include "apps/cli/command_line.h"
#include "apps/quantizing/calibrate.h"

namespace sextant::apps {

// --method, --percentile, --calibration-images, --calibration-split.
void add_calibration_options(Command command, Calibration& calibration);

}  // namespace sextant::apps
