// SPDX-License-Identifier: Apache-2.0
// Ranks layers by their sensitivity to int8.
//
// A layer is a convolution or transposed convolution together with its input: in int8 both are
// rounded. It is measured alone (only this layer in int8) or by its absence (all layers but this
// one in int8), using the graph that with_float_layers() makes and the engine runs. Layers that
// share an input or a range affect each other: a tensor is stored once, so an int8 layer rounds it
// for all readers.
//
// Cost, for n layers, i images and a network of f float operations an image, by kind of score:
//   map, any            n + 2 evaluations of a data set
//   outputs             about i f (2 + n / 2): a float run, and for each layer the nodes behind it
//   the layer's own     about i f (2 + 1): a float run, and for each layer the layer and the nodes
//                       that recompute its input if that is rounded
// Only activations of a few images are kept in memory (SensitivityConfig::memory).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::quant {

// How far outputs are from those of the float graph. With more than one output (the tensors that
// decode reads), means over the outputs, so that each counts alike.
struct OutputError {
  double noise = 0;   // sum (y - y_float)^2 / sum y_float^2
  double mse = 0;     // mean (y - y_float)^2
  double cosine = 1;  // y . y_float / (|y| |y_float|)

  // Signal to quantization noise ratio in dB, 10 log10(1 / noise); at most 150.
  double sqnr() const;
};

enum class Metric { kSqnr, kMse, kCosine, kMap };
constexpr auto enum_names(Metric) {
  return make_enum_names<Metric>("metric", {{Metric::kSqnr, "sqnr"},
                                            {Metric::kMse, "mse"},
                                            {Metric::kCosine, "cosine"},
                                            {Metric::kMap, "map"}});
}

// Returns the accuracy of a graph with ranges, run in int8; larger is better. A callback, since
// quant depends neither on datasets nor on mAP.
using Accuracy = std::function<double(const deploy::Graph&)>;

struct SensitivityConfig {
  Metric metric = Metric::kSqnr;
  // Measure with all layers but one in int8, instead of one alone.
  bool all_but = false;
  // Measure errors at the layer's own output instead of the network's: cheaper, but blind to how
  // later layers amplify the error. Not with all_but or kMap.
  bool own_output = false;
  int64_t memory = int64_t{512} << 20;   // limit for activations, bytes
  const deploy::Graph* exact = nullptr;  // see with_float_layers()
};

struct LayerScore {
  int node = -1;
  std::string name;
  OutputError error;    // except for kMap: of the graph with only this layer in int8 (float)
  double accuracy = 0;  // kMap: of that graph
  // The cost of int8 in this layer, in the metric's unit; larger is worse. Alone: noise, mse, 1 -
  // cosine, or the accuracy lost. With all_but: how much of it disappears with this layer in float.
  double harm = 0;
};

struct Sensitivity {
  SensitivityConfig config;
  std::vector<LayerScore> layers;  // most harmful first; ties in the graph's order
  OutputError all_int8;            // with every layer in int8; not for own_output, kMap
  double float_accuracy = 0;       // kMap
  double int8_accuracy = 0;        // kMap
  int64_t images = 0;
};

// `graph` has ranges; its own choice of float layers is ignored. images: u8 [N,H,W,3], not used for
// kMap; `accuracy` is used for kMap only. Shows progress on stderr. Throws Error for a graph
// without ranges, no images, kMap without `accuracy`, or unsupported combinations.
Sensitivity rank_layers(const deploy::Graph& graph, const Tensor& images,
                        const SensitivityConfig& config, const Accuracy& accuracy = nullptr);

// The tensors at which a graph's error is measured: the inputs of its decode node, or else its
// output.
std::vector<int> judged_tensors(const deploy::Graph& graph);

// Spearman's rank correlation of two lists of equal length, in [-1, 1]; equal values share their
// mean rank. 0 if one list is constant.
double spearman(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace sextant::quant
