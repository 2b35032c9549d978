// SPDX-License-Identifier: Apache-2.0
// The start of quantization-aware training.
#pragma once

#include <string>
#include <vector>

#include "data/dataset/dataset.h"
#include "deploy/graph/graph.h"
#include "models/loss/loss_config.h"

namespace sextant::apps {

// How a model was trained, if known: from the config.json beside it if it lies in a run folder,
// else from the checkpoint. 0: unknown.
struct SourceTraining {
  int64_t epochs = 0;
  double lr0 = 0;
  int64_t batch = 0;
};

struct SourceModel {
  deploy::Graph graph;
  LossConfig loss;  // its training loss for the maps that decode reads, if known
  SourceTraining training;

  const deploy::DecodeAttributes& decode() const {
    return graph.decode()->as<deploy::DecodeAttributes>();
  }
};
// Throws Error for a file that is neither checkpoint nor deploy file, or has no decode node.
SourceModel load_source_model(const std::string& path);

struct QatConfig;

// The quantized graph to start from, the first of: `given`, the file config.start, the model itself
// if it is quantized, the model calibrated on the data. Nodes that match config.float_layers are
// set to float (quant/layers/float_layers.h). Throws Error when a pattern matches no layer, or,
// naming the node, when the graph does not belong to the model.
deploy::Graph make_start(const QatConfig& config, const deploy::Graph& model,
                         const deploy::Graph* given);

// For each of `tensors`, the factors f32 [C] that map the channels of `start` to those of `model`:
// cross-layer equalization rescales channels, and distillation compares channel by channel. Least
// squares on one image, u8 [1,H,W,3]. An undefined Tensor if the difference is explained by
// rounding, or not explained by factors.
std::vector<Tensor> channel_factors(const deploy::Graph& model, const deploy::Graph& start,
                                    const std::vector<int>& tensors, const Tensor& image);

// Throws Error naming the first node in which the two differ in structure.
void check_same_structure(const deploy::Graph& a, const deploy::Graph& b);

}  // namespace sextant::apps
