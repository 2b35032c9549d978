// SPDX-License-Identifier: Apache-2.0
#include "apps/model_files/checkpoint.h"

#include <cstring>

#include "core/allocator.h"
#include "core/class_names.h"
#include "core/values.h"
#include "deploy/graph/file.h"
#include "deploy/graph/passes.h"
#include "deploy/graph/trace.h"

namespace sextant::apps {
namespace {
constexpr const char* kFormat = "sextant-checkpoint";
}

void save_checkpoint(const std::filesystem::path& path, const Yolov6& model,
                     const CheckpointInfo& info) {
  SafeTensors file;
  model.save_state(file);
  save_checkpoint(path, std::move(file), info);
}

void save_checkpoint(const std::filesystem::path& path, SafeTensors state,
                     const CheckpointInfo& info) {
  for (const auto& [name, t] : state.tensors) check_values(t, name, path.string());
  save_safetensors(path, with_metadata(std::move(state), info));
}

SafeTensors with_metadata(SafeTensors state, const CheckpointInfo& info) {
  Json meta = {{"format", kFormat},
               {"version", 1},
               {"model", info.model},
               {"class_names", info.class_names},
               {"image_size", info.image_size},
               {"gray_border", info.gray_border},
               {"epoch", info.epoch},
               {"metrics", info.metrics}};
  if (info.image_width > 0) meta["image_width"] = info.image_width;
  state.metadata["sextant"] = json_text(meta);
  return state;
}

namespace {

// Null if the file has no Sextant metadata.
Json metadata_of(const SafeTensors& file) {
  const auto text = file.metadata.find("sextant");
  if (text == file.metadata.end()) return {};
  return parse_json(text->second, file.path + ": 'sextant' in __metadata__");
}

Json read_metadata(const SafeTensors& file) {
  Json meta = metadata_of(file);
  std::string format;
  check(meta.is_object() && meta.contains("format") && read_value(meta.at("format"), format) &&
            format == kFormat,
        "{}: is neither a checkpoint nor a deploy file of Sextant", file.path);
  return meta;
}

// A file has as many values as its model. A config for a larger model is wrong, and is refused
// before memory is allocated for it.
std::unique_ptr<Yolov6> make_model(const Yolov6Config& config, const SafeTensors& file) {
  int64_t bytes = 0;
  for (const auto& [name, t] : file.tensors) bytes += t.bytes();
  constexpr int64_t kBytesPerTensor = 1024, kSlack = 8 << 20;
  // Twice: a weight and its initial values.
  const AllocationBudget budget(
      2 * bytes + kBytesPerTensor * std::ssize(file.tensors) + kSlack,
      file.path + ": 'model' in its metadata describes a larger model than the file holds");
  return std::make_unique<Yolov6>(config, 0);
}

bool predicts_classes(const std::string& name) {
  return name.find("cls_preds") != std::string::npos;
}

// Permutes rows of classes, repeated for each anchor if any.
Tensor reordered_rows(const Tensor& t, const std::vector<int64_t>& numbers) {
  const auto classes = std::ssize(numbers);
  check(t.shape().rank() >= 1 && t.dim(0) % classes == 0, "{} rows do not fit {} classes", t.dim(0),
        classes);
  const Tensor out = t.clone();
  const auto row = static_cast<size_t>(t.bytes() / t.dim(0));
  const auto* from = static_cast<const std::byte*>(t.raw());
  auto* to = static_cast<std::byte*>(out.raw());
  for (int64_t i = 0; i < t.dim(0); ++i) {
    const int64_t target = i / classes * classes + numbers[static_cast<size_t>(i % classes)];
    std::memcpy(to + static_cast<size_t>(target) * row, from + static_cast<size_t>(i) * row, row);
  }
  return out;
}

}  // namespace

std::vector<std::string> class_names_of(const SafeTensors& file) {
  std::vector<std::string> names;
  const Json meta = metadata_of(file);
  if (meta.is_object() && meta.contains("class_names")) read_value(meta.at("class_names"), names);
  return names;
}

LoadedCheckpoint load_checkpoint(const SafeTensors& file) {
  LoadedCheckpoint out;
  ConfigReader r(read_metadata(file), file.path);
  std::string format;
  int64_t version = 0;
  r.get("format", format);
  r.require("version", version);
  check(version == 1, "{}: is a checkpoint of version {}, only version 1 is supported", file.path,
        version);
  r.require("class_names", out.info.class_names);
  check_class_names(out.info.class_names, file.path);
  r.require("image_size", out.info.image_size);
  r.number("image_size", out.info.image_size, 0, 8192);
  r.number("image_width", out.info.image_width, 0, 8192);
  r.number("gray_border", out.info.gray_border, 0, 1024);
  r.get("epoch", out.info.epoch);
  r.get("metrics", out.info.metrics);
  ConfigReader m = r.child("model");
  out.info.model = m.json();
  const auto config = read_yolov6_config(m, static_cast<int64_t>(out.info.class_names.size()));
  r.finish();
  check(config.num_classes >= 1, "{}: has no class names", file.path);
  out.model = make_model(config, file);
  out.model->load_state(file);
  out.model->train(false);
  return out;
}

int64_t initialise_from(const SafeTensors& file, Yolov6& model,
                        const std::vector<std::string>& class_names) {
  const std::vector<std::string> theirs = class_names_of(file);
  const bool same = class_difference(theirs, class_names).empty();
  std::vector<int64_t> numbers;
  if (same && !theirs.empty() && !class_names.empty())
    numbers = match_classes(theirs, file.path, class_names, "the data");
  std::vector<std::pair<Tensor, Tensor>> copies;  // nothing is copied before all is checked
  int64_t fresh = 0;
  for (const auto& s : model.state()) {
    if (s.name.find("obj_preds") != std::string::npos && !file.find(s.name)) {
      ++fresh;
      continue;
    }
    const Tensor& t = file.at(s.name);
    check_values(t, s.name, file.path);
    const bool same_rank =
        t.shape().rank() == s.tensor.shape().rank() && t.dtype() == s.tensor.dtype();
    const Tensor here = same_rank ? from_file_layout(t, s.layout) : t;
    const bool classes = predicts_classes(s.name);
    if (same_rank && here.shape() == s.tensor.shape() && (same || !classes)) {
      copies.emplace_back(s.tensor,
                          classes && !numbers.empty() ? reordered_rows(here, numbers) : here);
      continue;
    }
    check(same_rank && classes, "{}: tensor '{}' is {} {}, the model needs {} {}", file.path,
          s.name, name_of(t.dtype()), here.shape().str(), name_of(s.tensor.dtype()),
          s.tensor.shape().str());
    ++fresh;
  }
  for (const auto& [to, from] : copies) to.copy_from(from);
  return fresh;
}

void reorder_classes(Yolov6& model, const std::vector<int64_t>& numbers) {
  for (const auto& s : model.state())
    if (predicts_classes(s.name)) s.tensor.copy_from(reordered_rows(s.tensor, numbers));
}

deploy::Graph trace_graph(Yolov6& model) {
  const bool training = model.training();
  model.train(false);
  deploy::NamedVariables parameters;
  for (const auto& p : model.parameters()) parameters.emplace_back(p.name, p.variable);
  deploy::Graph graph = deploy::trace_model([&](const Variable& x) { return model.predict(x); },
                                            parameters, Shape{1, 64, 64, 3});
  model.train(training);
  return graph;
}

deploy::Graph to_graph(Yolov6& model, const CheckpointInfo& info) {
  deploy::Graph graph = deploy::fuse(trace_graph(model));
  graph.class_names = info.class_names;
  graph.image_size = info.image_size;
  graph.image_width = info.image_width;
  graph.gray_border = info.gray_border;
  return graph;
}

ModelFile load_model_file(const std::string& path) {
  const SafeTensors file = load_safetensors(path);
  if (deploy::is_deploy_file(file)) return {deploy::load_deploy(file), nullptr};
  LoadedCheckpoint c = load_checkpoint(file);
  ModelFile out{to_graph(*c.model, c.info), std::move(c.model)};
  out.graph.source = path;
  return out;
}

deploy::Graph load_model_graph(const std::string& path) { return load_model_file(path).graph; }

}  // namespace sextant::apps
