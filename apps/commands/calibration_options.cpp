#include "apps/commands/calibration_options.h"

namespace sextant::apps {

void add_calibration_options(Command command, Calibration& calibration) {
  const std::string group = "For a model without ranges";
  command.add_option("--method", calibration.ptq.method, "How ranges are chosen")
      .one_of({"mse", "percentile", "entropy", "max"})
      .show_default()
      .group(group);
  command.add_option("--percentile", calibration.ptq.percentile, "For --method percentile")
      .range(50.0, 100.0)
      .show_default()
      .group(group);
  command.add_option("--calibration-images", calibration.ptq.images, "Images to calibrate on")
      .range(1, 1000000)
      .show_default()
      .group(group);
  command.add_option("--calibration-split", calibration.split, "Split to calibrate on")
      .show_default()
      .group(group);
}

}  // namespace sextant::apps
