// How long each layer takes in float and in int8, and what a graph with some layers in float will
// take.
#pragma once

#include <vector>

#include "deploy/engine/engine.h"

namespace sextant::quant {

// Milliseconds; indices are the graph's nodes.
struct LayerTimes {
  std::vector<double> fp32;
  std::vector<double> int8;
  // Per value converted at a border between float and int8.
  double to_float = 0;
  double to_int8 = 0;
};

// Runs the fp32 engine and the engine of the graph with all layers in int8 in turns, `runs` times,
// and takes the lower quartile of each step; the conversions on tensors of their own. `images`: u8
// [N,H,W,3]; times are those of the whole batch.
LayerTimes measure_layer_times(const deploy::Graph& graph, const Tensor& images, int runs);

// The sum over the nodes, each in what it runs in, and over the conversions that the engine will
// make, for batches of the size that the times are of. Left out: that an int8 layer writes more
// bytes when what follows is float.
double predict_ms(const deploy::Graph& graph, const LayerTimes& times, int64_t batch,
                  int64_t height, int64_t width);

// How many times as fast as the float engine the int8 engine of `graph` is: both run in turns; the
// ratio of their lower quartiles.
double measure_speedup(const deploy::Graph& graph, const Tensor& images, int runs);

}  // namespace sextant::quant
