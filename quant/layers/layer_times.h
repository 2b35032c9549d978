// SPDX-License-Identifier: Apache-2.0
// Times of each layer in float and in int8, and the predicted time of a graph with some layers in
// float.
#pragma once

#include <vector>

#include "deploy/engine/engine.h"

namespace sextant::quant {

// In milliseconds, indexed by the graph's nodes.
struct LayerTimes {
  std::vector<double> fp32;
  std::vector<double> int8;
  // Per value that is converted between float and int8.
  double to_float = 0;
  double to_int8 = 0;
};

// Runs the fp32 engine and the engine with all layers in int8 alternately, `runs` times, and takes
// the lower quartile of each step; conversions are timed separately. `images`: u8 [N,H,W,3]; times
// are per batch.
LayerTimes measure_layer_times(const deploy::Graph& graph, const Tensor& images, int runs);

// The sum over the nodes, each at its precision, and over the conversions that the engine will
// insert, for the batch size of `times`. It ignores that an int8 layer writes more bytes when the
// next layer is in float.
double predict_ms(const deploy::Graph& graph, const LayerTimes& times, int64_t batch,
                  int64_t height, int64_t width);

// The speed-up of the int8 engine of `graph` over the float engine: the ratio of their lower
// quartiles, with both run alternately.
double measure_speedup(const deploy::Graph& graph, const Tensor& images, int runs);

}  // namespace sextant::quant
