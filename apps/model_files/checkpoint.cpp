#include "apps/model_files/checkpoint.h"

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
  const Json meta = {{"format", kFormat},
                     {"version", 1},
                     {"model", info.model},
                     {"class_names", info.class_names},
                     {"image_size", info.image_size},
                     {"gray_border", info.gray_border},
                     {"epoch", info.epoch},
                     {"metrics", info.metrics}};
  state.metadata["sextant"] = meta.dump();
  save_safetensors(path, state);
}

namespace {

Json read_metadata(const SafeTensors& file) {
  const auto text = file.metadata.find("sextant");
  Json meta = text == file.metadata.end() ? Json() : Json::parse(text->second, nullptr, false);
  check(meta.is_object() && meta.value("format", "") == kFormat,
        "{}: is neither a checkpoint nor a deploy file of Sextant", file.path);
  return meta;
}

}  // namespace

void check_is_checkpoint(const SafeTensors& file) { read_metadata(file); }

LoadedCheckpoint load_checkpoint(const SafeTensors& file) {
  LoadedCheckpoint out;
  ConfigReader r(read_metadata(file), file.path);
  std::string format;
  int64_t version = 0;
  r.get("format", format);
  r.require("version", version);
  check(version == 1, "{}: is a checkpoint of version {}, this program reads version 1", file.path,
        version);
  r.require("class_names", out.info.class_names);
  r.require("image_size", out.info.image_size);
  r.number("gray_border", out.info.gray_border, 0, 1024);
  r.get("epoch", out.info.epoch);
  r.get("metrics", out.info.metrics);
  ConfigReader m = r.child("model");
  out.info.model = m.json();
  const auto config = read_yolov6_config(m, static_cast<int64_t>(out.info.class_names.size()));
  r.finish();
  check(config.num_classes >= 1, "{}: has no class names", file.path);
  out.model = std::make_unique<Yolov6>(config, 0);
  out.model->load_state(file);
  out.model->train(false);
  return out;
}

int64_t initialise_from(const SafeTensors& file, Yolov6& model) {
  std::vector<std::pair<Tensor, Tensor>> copies;  // nothing is written before all is checked
  int64_t fresh = 0;
  for (const auto& s : model.state()) {
    if (s.name.find("obj_preds") != std::string::npos && !file.find(s.name)) {
      ++fresh;
      continue;
    }
    const Tensor& t = file.at(s.name);
    const bool same_rank =
        t.shape().rank() == s.tensor.shape().rank() && t.dtype() == s.tensor.dtype();
    const Tensor here = same_rank ? from_file_layout(t, s.layout) : t;
    if (same_rank && here.shape() == s.tensor.shape()) {
      copies.emplace_back(s.tensor, here);
      continue;
    }
    check(same_rank && s.name.find("cls_preds") != std::string::npos,
          "{}: tensor '{}' is {} {}, the model's is {} {}", file.path, s.name, name_of(t.dtype()),
          here.shape().str(), name_of(s.tensor.dtype()), s.tensor.shape().str());
    ++fresh;
  }
  for (const auto& [to, from] : copies) to.copy_from(from);
  return fresh;
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
