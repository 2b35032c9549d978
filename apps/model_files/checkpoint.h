// Checkpoints: weights under the official names, in PyTorch's layout, with the config that makes
// the model in __metadata__["sextant"].
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/safetensors.h"
#include "deploy/graph/graph.h"
#include "models/yolov6.h"

namespace sextant::apps {

struct CheckpointInfo {
  Json model;  // as in the training config
  std::vector<std::string> class_names;
  int64_t image_size = 0;
  int64_t gray_border = 0;
  int64_t epoch = -1;
  Json metrics = Json::object();  // of the evaluation at that epoch, if there was one
};

void save_checkpoint(const std::filesystem::path& path, const Yolov6& model,
                     const CheckpointInfo& info);
// Of a state dict under the official names, in PyTorch's layout.
void save_checkpoint(const std::filesystem::path& path, SafeTensors state,
                     const CheckpointInfo& info);

// The same file in memory.
SafeTensors with_metadata(SafeTensors state, const CheckpointInfo& info);

struct LoadedCheckpoint {
  std::unique_ptr<Yolov6> model;  // in evaluation mode
  CheckpointInfo info;
};
// Throws Error naming file and key or tensor.
LoadedCheckpoint load_checkpoint(const SafeTensors& file);

// The class names that a checkpoint has in its metadata; none where it says nothing.
std::vector<std::string> class_names_of(const SafeTensors& file);

// Starts `model` from a file with weights under the official names. Class predictions are taken by
// the classes' names, `class_names` being the model's; they stay as they are where the file has
// other classes, and objectness where it has none. Returns how many tensors did. Throws Error
// naming file and tensor when any other is missing or of another shape.
int64_t initialise_from(const SafeTensors& file, Yolov6& model,
                        const std::vector<std::string>& class_names = {});

// Puts the class predictions of a model into another order: class i becomes class numbers[i].
void reorder_classes(Yolov6& model, const std::vector<int64_t>& numbers);

// Traces the model in evaluation mode; weights are shared. Leaves the model in the mode it was in.
deploy::Graph trace_graph(Yolov6& model);

// Traces the model in evaluation mode and fuses the graph; copies the weights. Leaves the model in
// the mode it was in. Class names, image size and border are taken from `info`.
deploy::Graph to_graph(Yolov6& model, const CheckpointInfo& info);

// A MODEL argument: a deploy file, or a checkpoint, which is traced and fused.
struct ModelFile {
  deploy::Graph graph;
  std::unique_ptr<Yolov6> model;  // a checkpoint's
};
ModelFile load_model_file(const std::string& path);
deploy::Graph load_model_graph(const std::string& path);

}  // namespace sextant::apps
