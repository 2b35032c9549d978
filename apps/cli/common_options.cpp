// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/common_options.h"

#include <charconv>

namespace sextant::apps {

std::array<int, 2> height_and_width(const std::string& text, const std::string& option) {
  std::array<int, 2> sides{};
  const char* at = text.data();
  const char* end = at + text.size();
  for (size_t i = 0; i < sides.size() && at != end; ++i) {
    const auto [next, error] = std::from_chars(at, end, sides[i]);
    const bool good = error == std::errc() && sides[i] >= 1 && sides[i] <= 8192 &&
                      (next == end || (*next == ',' && i == 0 && next + 1 != end));
    check(good, "{} '{}': must be SIZE or HEIGHT,WIDTH, each in [1, 8192]", option, text);
    at = next == end ? end : next + 1;
  }
  return sides;
}

int ImageSize::choose(deploy::Graph& graph) const {
  const auto [height, width] = height_and_width(text, "--img");
  if (width != 0) {
    graph.image_size = height;
    graph.image_width = width == height ? 0 : width;
  }
  return deploy::choose_image_size(height, graph, "--img");
}

int ImageSize::choose_side(const deploy::Graph& graph) const {
  const auto [height, width] = height_and_width(text, "--img");
  check(width == 0, "--img {}: this command takes one size", text);
  return deploy::choose_image_size(height, graph, "--img");
}

Option add_image_size_option(Command command, ImageSize& size) {
  return command
      .add_option("--img SIZE", size.text, "image size, or height and width, separated by a comma")
      .default_text("as trained");
}

Confidence::Chosen Confidence::choose(const deploy::Graph& graph) const {
  if (text != "best" && text != "best-per-class") {
    float value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    check(error == std::errc() && stop == end && value >= 0 && value <= 1,
          "--conf {}: must be a number between 0 and 1, best or best-per-class", text);
    return {value, {}};
  }
  const auto& measured = graph.proof.measured;
  check(measured.has_value(),
        "--conf {}: {} has no thresholds{}; `sextant eval --record` measures them", text,
        graph.label(), graph.proof.stale ? " since it was changed" : "");
  const auto as_float = [](double v) { return static_cast<float>(v); };
  if (text == "best") return {as_float(measured->confidence), {}};
  Chosen chosen{1, {}};
  for (const double c : measured->class_confidence) chosen.by_class.push_back(as_float(c));
  check(!chosen.by_class.empty(), "--conf {}: {} has no thresholds by class", text, graph.label());
  chosen.all = std::ranges::min(chosen.by_class);
  return chosen;
}

Option add_confidence_option(Command command, Confidence& conf) {
  return command
      .add_option("--conf X", conf.text,
                  "minimum confidence: a number, or best or best-per-class as measured by `sextant "
                  "eval --record`")
      .show_default();
}

Option add_model_argument(Command command, std::string& path) {
  return command.add_option("MODEL", path, "checkpoint or deploy file").reads().required();
}

std::string data_title(const data::Dataset& dataset) {
  std::filesystem::path path(dataset.path);
  if (!path.has_filename()) path = path.parent_path();
  return fmt::format("{} ({}, {} images)", path.filename().string(), dataset.split, dataset.size());
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
