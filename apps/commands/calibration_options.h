// SPDX-License-Identifier: Apache-2.0
// Options for calibrating a model without ranges.
#pragma once

#include "apps/cli/command_line.h"
#include "apps/quantizing/calibrate.h"

namespace sextant::apps {

// --method, --percentile, --calibration-images, --calibration-split.
void add_calibration_options(Command command, Calibration& calibration);

}  // namespace sextant::apps
