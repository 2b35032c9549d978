// What quantization-aware training starts from.
#pragma once

#include <string>
#include <vector>

#include "data/dataset/dataset.h"
#include "deploy/graph/graph.h"
#include "models/loss/loss_config.h"

namespace sextant::apps {

// How a model was trained, as far as that is known: from the config.json beside it when it lies in
// a run folder, else from the checkpoint. 0: not known.
struct SourceTraining {
  int64_t epochs = 0;
  double lr0 = 0;
  int64_t batch = 0;
};

struct SourceModel {
  deploy::Graph graph;
  LossConfig
      loss;  // what it was trained by, as far as that is known, for the maps that decode reads
  SourceTraining training;

  const deploy::DecodeAttributes& decode() const {
    return graph.decode()->as<deploy::DecodeAttributes>();
  }
};
// Throws Error for a file that is neither checkpoint nor deploy file, or has no decode node.
SourceModel load_source_model(const std::string& path);

struct QatConfig;

// The quantized graph to start from, by the first of these that applies: `given`, the file
// config.start, the model itself when it is quantized, ranges calibrated on the data. Nodes that
// config.float_layers names are set to float (quant/layers/float_layers.h). Throws Error when a
// pattern fits no layer, or when the graph is not that of the model, naming the node.
deploy::Graph make_start(const QatConfig& config, const deploy::Graph& model,
                         const deploy::Graph* given);

// For each of `tensors` what every channel of `start`'s is to be multiplied by to be about that of
// `model`, f32 [C]: cross-layer equalization gives channels other sizes, and distillation compares
// channel by channel. Least squares on one image, u8 [1,H,W,3]. An undefined Tensor where they
// differ no more than rounding explains, or by more than factors.
std::vector<Tensor> channel_factors(const deploy::Graph& model, const deploy::Graph& start,
                                    const std::vector<int>& tensors, const Tensor& image);

// Throws Error naming the first node in which the two differ other than in numbers.
void check_same_structure(const deploy::Graph& a, const deploy::Graph& b);

}  // namespace sextant::apps
