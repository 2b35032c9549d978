// SPDX-License-Identifier: Apache-2.0
// Partial quantization: which layers to keep in float.
//
// Two models guide the choice. Noise: rounding errors of different layers are independent, so the
// noise with a set of layers in float is about the sum of the other layers' noise, each measured
// alone (rank_layers). Time: predict_ms(). A path of sets leads from no layers to all. Each step
// adds the layer with the most noise per additional millisecond, including conversions at its
// borders; layers that cost nothing because their neighbours are already in float come first. Along
// the path accuracy rises and speed falls. The models only order the sets: whether a set meets the
// target is measured.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "quant/layers/layer_times.h"
#include "quant/layers/sensitivity.h"

namespace sextant::quant {

// The measurements that choose_float_layers() uses.
struct PartialMeasures {
  // Accuracy of a graph with ranges, run in int8.
  Accuracy accuracy;
  // Speed-up over the float engine.
  std::function<double(const deploy::Graph&)> speedup;
  LayerTimes times;
  int64_t batch = 1, height = 640, width = 640;  // at which the times were measured
};

struct PartialConfig {
  // Give at most one of the two. With neither, only the layers in `always` are in float.
  std::optional<double> max_drop;        // of accuracy, from the float graph's
  std::optional<double> min_speedup;     // over the float engine
  std::vector<int> always;               // layers (node indices) that are always in float
  int trials = 6;                        // max_drop: layers of the set to try in int8 again
  int extra_points = 3;                  // more sets along the path to measure for the curve
  const deploy::Graph* exact = nullptr;  // see with_float_layers()
};

// A set of float layers with its predicted and measured properties.
struct PartialPoint {
  std::vector<int> layers;  // node indices, ascending
  double noise = 0;         // predicted, as OutputError::noise
  double predicted_ms = 0;
  double predicted_speedup = 0;
  std::optional<double> speedup;   // measured
  std::optional<double> accuracy;  // measured
};

struct PartialResult {
  deploy::Graph graph;  // with the chosen layers in float
  // The measured sets, by rising predicted time; they include all layers in int8 (except `always`)
  // and all in float.
  std::vector<PartialPoint> curve;
  size_t chosen = 0;  // index in curve
  double float_accuracy = 0;
  double float_ms = 0;      // predicted for the float engine: the sum of its layer times
  int64_t evaluations = 0;  // number of accuracies measured
};

// `sensitivity` is that of each layer of `graph` alone, by any metric except kMap; the path uses
// its noise.
//
// max_drop: bisects along the path for the first set within the drop, with about log2(number of
// layers) evaluations. Then tries to move `trials` of its layers back to int8, those that cost most
// time first, keeping each move that still meets the target.
// min_speedup: bisects along the path by measured speed for the last set that is fast enough, then
// adds later layers that fit into the remaining time. Throws Error when int8 everywhere is too
// slow.
// In the end, a measured set that is at least as accurate and as fast takes the chosen one's place.
PartialResult choose_float_layers(const deploy::Graph& graph, const Sensitivity& sensitivity,
                                  const PartialMeasures& measures, const PartialConfig& config);

// The path, `always` first; the first set is `always` itself, the last has all layers.
std::vector<PartialPoint> float_path(const deploy::Graph& graph, const Sensitivity& sensitivity,
                                     const PartialMeasures& measures,
                                     const std::vector<int>& always);

}  // namespace sextant::quant
