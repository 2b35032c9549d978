// SPDX-License-Identifier: Apache-2.0
#include "support/model_fixtures.h"

#include "support/formula_weights.h"

namespace sextant::test {

Yolov6Config ModelFixture::config() const {
  std::string preset;  // the longest that the name starts with
  for (const std::string& p : yolov6_preset_names())
    if (name.starts_with(p) && p.size() > preset.size()) preset = p;
  const std::string rest = name.substr(preset.size());
  Json model = {{"type", preset}, {"training_mode", json.at("training_mode")}};
  if (rest == "_fuseab") model["fuse_ab"] = true;
  if (rest == "_distill_ns") model["distill_ns"] = true;
  model["use_dfl"] = json.at("head").at("use_dfl");
  model["reg_max"] = json.at("head").at("reg_max");
  return read_yolov6_config(ConfigReader(model, name, "model."),
                            json.at("num_classes").get<int64_t>());
}

std::optional<SafeTensors> ModelFixture::numbers() const {
  const std::string file = path + ".safetensors";
  if (!std::filesystem::exists(file)) return std::nullopt;
  return load_safetensors(file);
}

std::vector<ModelFixture> model_fixtures(const std::string& folder) {
  std::vector<ModelFixture> found;
  for (std::filesystem::path path : shared_files(folder + "/models", ".json"))
    if (path.stem() != "summary")
      found.push_back(
          {path.stem().string(), (path.parent_path() / path.stem()).string(), load_json(path)});
  return found;
}

std::unique_ptr<Yolov6> formula_model(const Yolov6Config& config, const std::string& salt,
                                      double gain, double norm_bias) {
  auto model = std::make_unique<Yolov6>(config, 1);
  SafeTensors state;
  model->save_state(state);
  for (const auto& [name, t] : state.tensors) fill_formula_weights(name, t, salt, gain, norm_bias);
  model->load_state(state);
  return model;
}

std::unique_ptr<Yolov6> formula_model(const Yolov6Config& config, const SafeTensors& fixture) {
  const auto bias = fixture.metadata.find("B");
  return formula_model(config, fixture.meta("salt"), std::stod(fixture.meta("G")),
                       bias == fixture.metadata.end() ? 0.0 : std::stod(bias->second));
}

}  // namespace sextant::test
