#include "apps/checkpoint.h"

#include "deploy/file.h"
#include "deploy/passes.h"
#include "deploy/trace.h"

namespace sextant::apps {
namespace {
constexpr const char* kFormat = "sextant-checkpoint";
}

void save_checkpoint(const std::filesystem::path& path, const Yolov6& model,
                     const CheckpointInfo& info) {
  SafeTensors file;
  model.save_state(file);
  const Json meta = {{"format", kFormat},
                     {"version", 1},
                     {"model", info.model},
                     {"class_names", info.class_names},
                     {"image_size", info.image_size},
                     {"epoch", info.epoch},
                     {"metrics", info.metrics}};
  file.metadata["sextant"] = meta.dump();
  save_safetensors(path, file);
}

LoadedCheckpoint load_checkpoint(const SafeTensors& file) {
  LoadedCheckpoint out;
  Json meta = Json::parse(file.meta("sextant"), nullptr, false);
  check(meta.is_object() && meta.value("format", "") == kFormat,
        "{}: is neither a checkpoint nor a deploy file of Sextant", file.path);
  ConfigReader r(meta, file.path);
  std::string format;
  int64_t version = 0;
  r.get("format", format);
  r.require("version", version);
  check(version == 1, "{}: is a checkpoint of version {}, this program reads version 1", file.path,
        version);
  r.require("class_names", out.info.class_names);
  r.require("image_size", out.info.image_size);
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

deploy::Graph to_graph(Yolov6& model, const std::vector<std::string>& class_names,
                       int64_t image_size) {
  const bool training = model.training();
  model.train(false);
  deploy::NamedVariables parameters;
  for (const auto& p : model.parameters()) parameters.emplace_back(p.name, p.variable);
  deploy::Graph graph = deploy::fuse(deploy::trace_model(
      [&](const Variable& x) { return model.predict(x); }, parameters, Shape{1, 64, 64, 3}));
  model.train(training);
  graph.class_names = class_names;
  graph.image_size = image_size;
  return graph;
}

ModelFile load_model_file(const std::string& path) {
  const SafeTensors file = load_safetensors(path);
  if (deploy::is_deploy_file(file)) return {deploy::load_deploy(file), nullptr};
  check(file.metadata.contains("sextant"),
        "{}: is neither a checkpoint nor a deploy file of Sextant", path);
  LoadedCheckpoint c = load_checkpoint(file);
  ModelFile out{to_graph(*c.model, c.info.class_names, c.info.image_size), std::move(c.model)};
  out.graph.source = path;
  return out;
}

deploy::Graph load_model_graph(const std::string& path) { return load_model_file(path).graph; }

}  // namespace sextant::apps
