// Which layers suffer from int8.
//
// A layer is a convolution or transposed convolution with its input: in int8 both are rounded. It
// is judged alone (it in int8, all others in float) or by its absence (all in int8 but it), each
// time as the graph that with_float_layers() makes and the engine runs. Note what that means for
// layers that share an input or a range: a tensor is held once, so an int8 layer has it rounded for
// all.
//
// Cost, for n layers, i images and a network of f float operations an image, by kind of score:
//   map, any            n + 2 evaluations of a data set
//   outputs             i f (2 + n / 2) or so: one float run, and for each layer what comes after
//   it the layer's own     i f (2 + 1 or so): one float run, and for each layer it and those that
//   make
//                       its input anew where that is rounded
// Nothing but activations of a few images is kept in memory (SensitivityConfig::memory).
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

// Gives the accuracy of a graph with ranges, run in int8; larger is better. (mAP on a data set:
// quant knows neither.)
using Accuracy = std::function<double(const deploy::Graph&)>;

struct SensitivityConfig {
  Metric metric = Metric::kSqnr;
  // All layers in int8 but the one. Else the one alone.
  bool all_but = false;
  // Errors at the layer's own output instead of the network's: cheaper, and blind to what later
  // layers make of the error. Not for all_but or kMap.
  bool own_output = false;
  int64_t memory = int64_t{512} << 20;   // bytes of activations
  const deploy::Graph* exact = nullptr;  // as with_float_layers() takes it
};

struct LayerScore {
  int node = -1;
  std::string name;
  OutputError error;    // but for kMap: of the graph with this layer alone in int8 (in float)
  double accuracy = 0;  // kMap: of that graph
  // What int8 costs here, in the metric's own unit; larger is worse. Alone: noise, mse, 1 - cosine
  // of the error, or the accuracy lost. All but: what of these goes when this layer is in float.
  double harm = 0;
};

struct Sensitivity {
  SensitivityConfig config;
  std::vector<LayerScore> layers;  // most harmful first; of equal ones in the graph's order
  OutputError all_int8;       // of the graph with every layer in int8; not for own_output, kMap
  double float_accuracy = 0;  // kMap
  double int8_accuracy = 0;   // kMap
  int64_t images = 0;
};

// `graph` has ranges; its own choice of float layers is disregarded. images: u8 [N,H,W,3], not used
// for kMap; `accuracy` is used for kMap only. Progress on stderr. Throws Error for a graph without
// ranges, no images, a metric without what it needs, or combinations that make no sense.
Sensitivity rank_layers(const deploy::Graph& graph, const Tensor& images,
                        const SensitivityConfig& config, const Accuracy& accuracy = nullptr);

// The tensors by which a graph is judged: what its decode node reads, or else its output.
std::vector<int> judged_tensors(const deploy::Graph& graph);

// Spearman's rank correlation of two lists of equal length, in [-1, 1]; equal values share their
// mean rank. 0 when one of the lists is constant.
double spearman(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace sextant::quant
