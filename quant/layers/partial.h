// Partial quantization: which layers to keep in float.
//
// Two models steer the choice. Noise: rounding errors of different layers are independent, so what
// is left with a set of layers in float is about the sum of the others' noise, each measured alone
// (rank_layers). Time: predict_ms(). A path of sets, from none to all layers, takes at each step
// the layer with the most noise per millisecond that it costs where it now stands, conversions at
// its borders counted; one that costs nothing, because its neighbours are in float already, comes
// first. Along the path accuracy rises and speed falls. The models only order the sets: whether one
// meets the target is measured.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "quant/layers/layer_times.h"
#include "quant/layers/sensitivity.h"

namespace sextant::quant {

// What choose_float_layers() asks for.
struct PartialMeasures {
  // Of a graph with ranges run in int8.
  Accuracy accuracy;
  // Times as fast as the float engine.
  std::function<double(const deploy::Graph&)> speedup;
  LayerTimes times;
  int64_t batch = 1, height = 640, width = 640;  // that the times are of
};

struct PartialConfig {
  // At most one of the two. Neither: the layers in `always`, no more.
  std::optional<double> max_drop;        // of accuracy, from the float graph's
  std::optional<double> min_speedup;     // over the float engine
  std::vector<int> always;               // layers (node indices) in float in any case
  int trials = 6;                        // max_drop: layers of the set that are tried in int8 again
  int extra_points = 3;                  // sets along the path measured for the curve's sake
  const deploy::Graph* exact = nullptr;  // as with_float_layers() takes it
};

// A set of float layers and what is known of it.
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
  // Those measured, fastest predicted first; all int8 (but `always`) and all float are among them.
  std::vector<PartialPoint> curve;
  size_t chosen = 0;  // in curve
  double float_accuracy = 0;
  double float_ms = 0;      // predicted for the float engine: the sum of its layers' times
  int64_t evaluations = 0;  // accuracies measured
};

// `sensitivity` of `graph`, each layer alone, by any metric but kMap; the path takes its noise.
//
// max_drop: bisection along the path for the first set that loses at most so much (about log2 of
// the number of layers evaluations), then `trials` of its layers, those that cost most time first,
// are put back into int8 where the target still holds.
// min_speedup: bisection along the path by measured speed for the last set that is fast enough,
// then those further on that fit into what time is left. Throws Error when int8 everywhere is too
// slow.
PartialResult choose_float_layers(const deploy::Graph& graph, const Sensitivity& sensitivity,
                                  const PartialMeasures& measures, const PartialConfig& config);

// The path, `always` first; the first set is `always` itself, the last has all layers.
std::vector<PartialPoint> float_path(const deploy::Graph& graph, const Sensitivity& sensitivity,
                                     const PartialMeasures& measures,
                                     const std::vector<int>& always);

}  // namespace sextant::quant
