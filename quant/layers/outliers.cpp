// SPDX-License-Identifier: Apache-2.0
#include "quant/layers/outliers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "deploy/engine/engine.h"

namespace sextant::quant {
namespace {

using deploy::Node;

// Accumulates over batches.
struct Moments {
  double largest = 0, squares = 0;
  int64_t values = 0;

  void add(const float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      largest = std::max(largest, static_cast<double>(std::abs(x[i])));
      squares += static_cast<double>(x[i]) * x[i];
    }
    values += n;
  }
  PeakToRms spread() const {
    return {largest, values > 0 ? std::sqrt(squares / static_cast<double>(values)) : 0.0};
  }
};

PeakToRms spread_of(const Tensor& t) {
  Moments m;
  m.add(t.f32(), t.numel());
  return m.spread();
}

double channel_ratio(const Tensor& weight) {
  const int64_t channels = weight.dim(0);
  const int64_t n = weight.numel() / channels;
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (int64_t c = 0; c < channels; ++c) {
    Moments m;
    m.add(weight.f32() + c * n, n);
    if (m.largest == 0) continue;
    low = std::min(low, m.largest);
    high = std::max(high, m.largest);
  }
  return high > 0 ? high / low : 1.0;
}

}  // namespace

std::vector<LayerOutliers> measure_outliers(const deploy::Graph& graph,
                                            const std::function<Tensor()>& source) {
  std::vector<LayerOutliers> layers;
  std::vector<int> layer_of(graph.tensors.size(), -1);  // indexed by output tensor
  for (const Node& node : graph.nodes) {
    if (!node.has_weight()) continue;
    layer_of[static_cast<size_t>(node.output)] = static_cast<int>(layers.size());
    layers.push_back({node.name, spread_of(node.weight), {}, channel_ratio(node.weight)});
  }
  std::vector<Moments> moments(layers.size());
  std::unique_ptr<deploy::Engine> engine;
  Shape shape;
  for (Tensor batch = source(); batch.defined(); batch = source()) {
    if (!engine || batch.shape() != shape) {
      shape = batch.shape();
      engine = std::make_unique<deploy::Engine>(
          graph, deploy::EngineConfig{.batch = shape[0], .height = shape[1], .width = shape[2]});
    }
    engine->run(batch, [&](const deploy::TensorView& v) {
      const int layer = layer_of[static_cast<size_t>(v.id)];
      if (layer < 0) return;
      const Tensor values = v.values();
      moments[static_cast<size_t>(layer)].add(values.f32(), values.numel());
    });
  }
  check(engine != nullptr, "outliers: no images");
  for (size_t i = 0; i < layers.size(); ++i) layers[i].activation = moments[i].spread();
  return layers;
}

}  // namespace sextant::quant
