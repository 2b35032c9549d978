// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/partial_measures.h"

#include "apps/quantizing/calibrate.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {

quant::PartialMeasures partial_measures(const deploy::Graph& graph, const data::Dataset& dataset,
                                        int image_size, int runs) {
  const Tensor one = spread_batch(dataset, 1, image_size, graph);
  quant::PartialMeasures measures;
  measures.accuracy = [&dataset, image_size](const deploy::Graph& g) {
    return deploy::evaluate(g, dataset, image_size, deploy::Precision::kInt8).metrics.ap;
  };
  measures.speedup = [one, runs](const deploy::Graph& g) {
    return quant::measure_speedup(g, one, runs);
  };
  measures.times = quant::measure_layer_times(graph, one, runs);
  measures.height = image_size;
  measures.width = graph.width_for(image_size);
  return measures;
}

}  // namespace sextant::apps
