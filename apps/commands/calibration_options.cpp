// SPDX-License-Identifier: Apache-2.0
#include "apps/commands/calibration_options.h"

namespace sextant::apps {

void add_calibration_options(Command command, Calibration& calibration) {
  const std::string group = "Calibration of a model without ranges";
  command
      .add_option("--method NAME", calibration.ptq.method,
                  "how the ranges of activations are chosen")
      .group(group);
  command
      .add_option("--percentile X", calibration.ptq.percentile,
                  "percentile of |x|, for --method percentile")
      .range(50.0, 100.0)
      .show_default()
      .group(group);
  command.add_option("--calibration-images N", calibration.ptq.images, "images to calibrate on")
      .range(1, 1000000)
      .show_default()
      .group(group);
  command.add_option("--calibration-split NAME", calibration.split, "split to calibrate on")
      .show_default()
      .group(group);
}

}  // namespace sextant::apps
