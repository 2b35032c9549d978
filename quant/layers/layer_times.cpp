// SPDX-License-Identifier: Apache-2.0
#include "quant/layers/layer_times.h"

#include <algorithm>
#include <chrono>

#include "deploy/engine/data_steps.h"
#include "deploy/graph/ranges.h"
#include "quant/layers/float_layers.h"

namespace sextant::quant {
namespace {

using deploy::Engine;
using deploy::Graph;
using deploy::Node;
using deploy::Place;
using deploy::Precision;

// Other programs only ever add to the time of a run, so the lower quartile is closer to an idle
// machine's time than the median, and more stable than the minimum.
double typical(std::vector<double> v) {
  const auto quartile = v.begin() + static_cast<int64_t>(v.size() / 4);
  std::ranges::nth_element(v, quartile);
  return *quartile;
}

template <class F>
double milliseconds(const F& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

deploy::EngineConfig config_for(const Tensor& images, Precision precision) {
  return {.batch = images.dim(0),
          .height = images.dim(1),
          .width = images.dim(2),
          .precision = precision};
}

// Samples of each step's time, and their lower quartiles summed by node.
class Profile {
 public:
  Profile(const Graph& graph, const Tensor& images, Precision precision)
      : graph_(graph), engine_(graph, config_for(images, precision)) {
    engine_.run(images);
  }
  void sample(const Tensor& images) {
    steps_ = engine_.profile(images, 1);
    samples_.resize(steps_.size());
    for (size_t i = 0; i < steps_.size(); ++i) samples_[i].push_back(steps_[i].milliseconds);
  }
  std::vector<double> by_node() const {
    std::vector<double> ms(graph_.nodes.size(), 0.0);
    for (size_t i = 0; i < steps_.size(); ++i)
      for (size_t n = 0; n < ms.size(); ++n)
        if (graph_.nodes[n].name == steps_[i].name && steps_[i].kind != "convert")
          ms[n] += typical(samples_[i]);
    return ms;
  }

 private:
  const Graph& graph_;
  Engine engine_;
  std::vector<deploy::StepTime> steps_;
  std::vector<std::vector<double>> samples_;
};

// Conversions of one map of 80 x 80 x 64 values in both directions.
void measure_conversions(int runs, LayerTimes& times) {
  constexpr int64_t kRows = 6400, kChannels = 64;
  constexpr double kValues = kRows * kChannels;
  Tensor integers(Shape{kRows, kChannels}, DType::kU8);
  Tensor floats(Shape{kRows, kChannels});
  integers.fill_zero();
  floats.fill_zero();
  const deploy::Bases bases{static_cast<std::byte*>(integers.raw()),
                            static_cast<std::byte*>(floats.raw())};
  const Place q{.storage = 0, .pitch = kChannels, .channels = kChannels, .dtype = DType::kU8};
  const Place f{.storage = 1, .pitch = kChannels, .channels = kChannels, .dtype = DType::kF32};
  const deploy::Meaning meaning{.quantized = true, .is_unsigned = true, .scale = 0.05f};
  const kernels::Backend& on = kernels::backend(Device::kCpu);
  const auto there = deploy::make_map_step(on, q, meaning, f, {}, kRows, Activation::kIdentity);
  const auto back = deploy::make_map_step(on, f, {}, q, meaning, kRows, Activation::kIdentity);
  std::vector<double> to_float, to_int8;
  for (int r = -1; r < std::max(runs, 9); ++r) {
    const double a = milliseconds([&] { there->run(bases); });
    const double b = milliseconds([&] { back->run(bases); });
    if (r < 0) continue;
    to_float.push_back(a);
    to_int8.push_back(b);
  }
  times.to_float = typical(to_float) / kValues;
  times.to_int8 = typical(to_int8) / kValues;
}

}  // namespace

LayerTimes measure_layer_times(const Graph& graph, const Tensor& images, int runs) {
  check(runs >= 1, "layer times: {} runs", runs);
  const Graph all_int8 = with_float_layers(graph, {});
  Profile fp32(all_int8, images, Precision::kFloat32);
  Profile int8(all_int8, images, Precision::kInt8);
  for (int r = 0; r < runs; ++r) {
    fp32.sample(images);
    int8.sample(images);
  }
  LayerTimes times{.fp32 = fp32.by_node(), .int8 = int8.by_node()};
  measure_conversions(runs, times);
  return times;
}

double predict_ms(const Graph& graph, const LayerTimes& times, int64_t batch, int64_t height,
                  int64_t width) {
  check(times.fp32.size() == graph.nodes.size() && times.int8.size() == graph.nodes.size(),
        "layer times: measured for {} nodes, but the graph has {}", times.fp32.size(),
        graph.nodes.size());
  const std::vector<Shape> shapes = deploy::infer_shapes(graph, batch, height, width);
  const auto held_as_integers = [&](int t) {
    return graph.tensors[static_cast<size_t>(t)].has_range();
  };
  const auto values = [&](int t) {
    return static_cast<double>(shapes[static_cast<size_t>(t)].numel());
  };
  double ms = 0;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const bool integer =
        node.has_weight() ? deploy::runs_in_int8(graph, node) : held_as_integers(node.output);
    ms += integer ? times.int8[n] : times.fp32[n];
    if (integer || !node.has_weight()) continue;
    for (const int t : node.inputs)
      if (held_as_integers(t)) ms += times.to_float * values(t);
    if (held_as_integers(node.output)) ms += times.to_int8 * values(node.output);
  }
  return ms;
}

double measure_speedup(const Graph& graph, const Tensor& images, int runs) {
  Engine fp32(graph, config_for(images, Precision::kFloat32));
  Engine mixed(graph, config_for(images, Precision::kInt8));
  std::vector<double> a, b;
  for (int r = -2; r < std::max(runs, 1); ++r) {
    const double slow = milliseconds([&] { fp32.run(images); });
    const double fast = milliseconds([&] { mixed.run(images); });
    if (r < 0) continue;
    a.push_back(slow);
    b.push_back(fast);
  }
  return typical(a) / typical(b);
}

}  // namespace sextant::quant
