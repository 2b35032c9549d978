// SPDX-License-Identifier: Apache-2.0
// Checkpoints: weights under the official names, in PyTorch's layout, with the model's config in
// __metadata__["sextant"].
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
  Json metrics = Json::object();  // of the evaluation at that epoch, if any
  int64_t image_width = 0;        // where it differs from image_size, then the height
};

void save_checkpoint(const std::filesystem::path& path, const Yolov6& model,
                     const CheckpointInfo& info);
// Writes a state dict under the official names, in PyTorch's layout.
void save_checkpoint(const std::filesystem::path& path, SafeTensors state,
                     const CheckpointInfo& info);

// The same file, in memory.
SafeTensors with_metadata(SafeTensors state, const CheckpointInfo& info);

struct LoadedCheckpoint {
  std::unique_ptr<Yolov6> model;  // in evaluation mode
  CheckpointInfo info;
};
// Throws Error naming file and key or tensor.
LoadedCheckpoint load_checkpoint(const SafeTensors& file);

// The class names in a checkpoint's metadata; empty if it has none.
std::vector<std::string> class_names_of(const SafeTensors& file);

// Initializes `model` from a file with weights under the official names. Class predictions are
// matched by name, `class_names` being the model's; they keep their values if the file has other
// classes, and so does objectness if the file has none. Returns the number of tensors that kept
// their values. Throws Error naming file and tensor when any other is missing or has another shape.
int64_t initialise_from(const SafeTensors& file, Yolov6& model,
                        const std::vector<std::string>& class_names = {});

// Reorders the class predictions of a model: class i becomes class numbers[i].
void reorder_classes(Yolov6& model, const std::vector<int64_t>& numbers);

// Traces the model in evaluation mode; weights are shared. Restores the model's mode.
deploy::Graph trace_graph(Yolov6& model);

// Traces the model in evaluation mode and fuses the graph; copies the weights. Restores the model's
// mode. Class names, image size and border come from `info`.
deploy::Graph to_graph(Yolov6& model, const CheckpointInfo& info);

// A MODEL argument: a deploy file, or a checkpoint, which is traced and fused.
struct ModelFile {
  deploy::Graph graph;
  std::unique_ptr<Yolov6> model;  // set for a checkpoint
};
ModelFile load_model_file(const std::string& path);
deploy::Graph load_model_graph(const std::string& path);

}  // namespace sextant::apps
