// SPDX-License-Identifier: Apache-2.0
#include "apps/model_files/import.h"

#include "core/class_names.h"
#include "models/import/import_pt.h"
#include "models/import/official_form.h"
#include "models/import/recognise.h"

namespace sextant::apps {
namespace {

// The number of batches that each batch-norm has seen: unused here, and omitted by some programs.
void add_counters(SafeTensors& state) {
  constexpr std::string_view kVariance = "running_var";
  std::vector<std::string> absent;
  for (const auto& [name, t] : state.tensors) {
    if (!name.ends_with(kVariance)) continue;
    const std::string counter =
        name.substr(0, name.size() - kVariance.size()) + "num_batches_tracked";
    if (state.find(counter) == nullptr) absent.push_back(counter);
  }
  for (const std::string& name : absent) state.add(name, Tensor::zeros(Shape{}, DType::kI64));
}

}  // namespace

ImportedCheckpoint import_weights_file(const std::filesystem::path& from,
                                       const ImportOptions& options) {
  ImportedWeights weights = import_weights(from);
  std::vector<std::pair<std::string, Shape>> shapes;
  for (const auto& [name, t] : weights.state.tensors) shapes.emplace_back(name, t.shape());
  const RecognisedModel model = recognise_yolov6(shapes, from.string(), weights.block);

  ImportedCheckpoint r;
  r.info.model = model.model;
  r.info.epoch = weights.epoch;
  r.info.image_size = options.image_size != 0 ? options.image_size : model.image_size;
  const Yolov6Config config =
      read_yolov6_config(ConfigReader(model.model, from.string(), "model."), model.num_classes);
  const int64_t multiple = config.size_multiple();
  check(r.info.image_size > 0 && r.info.image_size % multiple == 0 && r.info.image_size <= 8192,
        "{}: image size {} must be a multiple of {} and at most 8192", from.string(),
        r.info.image_size, multiple);
  r.info.class_names = options.class_names.empty() ? weights.class_names : options.class_names;
  if (r.info.class_names.empty())
    for (int64_t i = 0; i < model.num_classes; ++i) r.info.class_names.push_back(std::to_string(i));
  check(static_cast<int64_t>(r.info.class_names.size()) == model.num_classes,
        "{}: has {} classes, but {} class names", from.string(), model.num_classes,
        r.info.class_names.size());
  check_class_names(r.info.class_names, options.class_names.empty() ? from.string() : "--names");
  if (config.lite()) add_absorbed_norms(Yolov6(config, 0), weights.state);
  add_counters(weights.state);
  weights.state.path = from.string();
  r.state = std::move(weights.state);
  // Refuses a result that could not be read back, naming the source file.
  load_checkpoint(with_metadata(r.state, r.info));
  return r;
}

bool is_torch_name(const std::filesystem::path& path) {
  return path.extension() == ".pt" || path.extension() == ".pth";
}

SafeTensors load_weights(const std::filesystem::path& path) {
  if (!is_torch_name(path)) return load_safetensors(path);
  ImportedCheckpoint r = import_weights_file(path, {});
  return with_metadata(std::move(r.state), r.info);
}

ImportResult import_checkpoint(const std::filesystem::path& from, const std::filesystem::path& to,
                               const ImportOptions& options) {
  ImportedCheckpoint r = import_weights_file(from, options);
  const ImportResult result{r.info, r.state.tensors.size()};
  save_checkpoint(to, std::move(r.state), r.info);
  return result;
}

}  // namespace sextant::apps
