// Checkpoints: weights under the official names, in PyTorch's layout, with the config that makes
// the model in __metadata__["sextant"].
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/safetensors.h"
#include "deploy/graph.h"
#include "models/yolov6.h"

namespace sextant::apps {

struct CheckpointInfo {
  Json model;  // as in the training config
  std::vector<std::string> class_names;
  int64_t image_size = 0;
  int64_t epoch = -1;
  Json metrics = Json::object();  // of the evaluation at that epoch, if there was one
};

void save_checkpoint(const std::filesystem::path& path, const Yolov6& model,
                     const CheckpointInfo& info);

struct LoadedCheckpoint {
  std::unique_ptr<Yolov6> model;  // in evaluation mode
  CheckpointInfo info;
};
// Throws Error naming file and key or tensor.
LoadedCheckpoint load_checkpoint(const SafeTensors& file);

// Traces the model in evaluation mode and fuses the graph; copies the weights. Leaves the model in
// the mode it was in.
deploy::Graph to_graph(Yolov6& model, const std::vector<std::string>& class_names,
                       int64_t image_size);

// A MODEL argument: a deploy file, or a checkpoint, which is traced and fused.
struct ModelFile {
  deploy::Graph graph;
  std::unique_ptr<Yolov6> model;  // a checkpoint's
};
ModelFile load_model_file(const std::string& path);
deploy::Graph load_model_graph(const std::string& path);

}  // namespace sextant::apps
