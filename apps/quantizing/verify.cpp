// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/verify.h"

#include <algorithm>

#include "apps/quantizing/calibrate.h"
#include "core/progress.h"

namespace sextant::apps {
namespace {

void merge(std::vector<deploy::StepDifference>& worst,
           const std::vector<deploy::StepDifference>& found) {
  worst.resize(found.size());
  for (size_t k = 0; k < found.size(); ++k) {
    deploy::StepDifference& w = worst[k];
    w.tensor = found[k].tensor;
    w.floats = found[k].floats;
    w.max_steps = std::max(w.max_steps, found[k].max_steps);
    w.max_float = std::max(w.max_float, found[k].max_float);
    w.differing += found[k].differing;
    w.values += found[k].values;
  }
}

}  // namespace

Verification verify(const deploy::Graph& graph, const data::Dataset& dataset, int64_t count,
                    int image_size, deploy::Precision precision) {
  const bool integer = precision == deploy::Precision::kInteger;
  deploy::EngineConfig config{1, image_size, graph.width_for(image_size), deploy::Precision::kInt8};
  deploy::Engine int8(graph, config);
  config.precision = precision;
  deploy::Engine other =
      integer ? deploy::Engine(graph, config) : deploy::make_simulation(graph, config);
  const quant::ImageSource images = spread_images(dataset, count, image_size, graph);
  Verification v;
  Progress progress("verify", std::min(count, dataset.size()));
  for (Tensor image = images(); image.defined(); image = images()) {
    merge(v.tensors, integer ? deploy::compare_layers(other, int8, image)
                             : deploy::compare_engines(int8, other, image));
    progress.update(++v.images);
  }
  progress.finish();
  for (const deploy::StepDifference& d : v.tensors) {
    v.max_float = std::max(v.max_float, d.max_float);
    if (d.floats) continue;
    v.max_steps = std::max(v.max_steps, d.max_steps);
    v.differing += d.differing;
    v.values += d.values;
  }
  return v;
}

}  // namespace sextant::apps
