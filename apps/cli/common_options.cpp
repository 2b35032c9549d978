// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/common_options.h"

namespace sextant::apps {

int ImageSize::choose(const deploy::Graph& graph) const {
  return deploy::choose_image_size(value, graph, "--img");
}

Option add_image_size_option(Command command, ImageSize& size) {
  return command.add_option("--img SIZE", size.value, "image size")
      .range(1, 8192)
      .default_text("as trained");
}

Option add_model_argument(Command command, std::string& path) {
  return command.add_option("MODEL", path, "checkpoint or deploy file").reads().required();
}

Option add_data_option(Command command, std::string& path) {
  return command.add_option("--data DATA", path, "dataset: a folder, a JSON file or a data.yaml")
      .reads_data()
      .required();
}

Option add_device_option(Command command, deploy::DeviceChoice& device) {
  return command.add_option("--device NAME", device, "where to run");
}

Option add_precision_option(Command command, std::optional<deploy::Precision>& precision) {
  return command.add_option("--precision NAME", precision, "what to compute in")
      .default_text("int8 for a quantized model, else fp32");
}

}  // namespace sextant::apps
