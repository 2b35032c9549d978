// SPDX-License-Identifier: Apache-2.0
#include "quant/ptq/equalize.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "deploy/engine/engine.h"
#include "deploy/graph/conv_layers.h"
#include "quant/ptq/channel_sets.h"
#include "quant/ranges/histogram.h"

namespace sextant::quant {
namespace {

using deploy::Graph;
using deploy::Node;

// The largest |w| over the taps, [O, I / groups]: equalization needs nothing else of a weight.
struct Extent {
  int64_t rows = 0, columns = 0;
  int64_t rows_per_group = 0;
  std::vector<double> values;

  double at(int64_t o, int64_t i) const { return values[static_cast<size_t>(o * columns + i)]; }
};

Extent extent_of(const Node& node) {
  const int64_t rows = node.weight.dim(0);
  Extent e{rows, node.weight.dim(3), rows / deploy::conv_attributes(node).groups, {}};
  const int64_t taps = node.weight.dim(1) * node.weight.dim(2);
  e.values.assign(static_cast<size_t>(e.rows * e.columns), 0.0);
  const float* w = node.weight.f32();
  for (int64_t o = 0; o < e.rows; ++o)
    for (int64_t k = 0; k < taps; ++k)
      for (int64_t i = 0; i < e.columns; ++i) {
        double& v = e.values[static_cast<size_t>(o * e.columns + i)];
        v = std::max(v, std::abs(static_cast<double>(*w++)));
      }
  return e;
}

class Equalizer {
 public:
  Equalizer(const Graph& graph, const EqualizeConfig& config, const ChannelRanges* activations)
      : graph_(graph),
        config_(config),
        found_(find_channel_sets(graph, activations != nullptr)),
        scale_(found_.sets.size(), 1.0) {
    extents_.resize(graph.nodes.size());
    for (size_t n = 0; n < graph.nodes.size(); ++n)
      if (graph.nodes[n].has_weight()) extents_[n] = extent_of(graph.nodes[n]);
    if (!activations) return;
    check(activations->size() == graph.tensors.size(),
          "equalize: ranges of {} tensors for a graph of {}", activations->size(),
          graph.tensors.size());
    observed_.assign(scale_.size(), 0.0);
    for (size_t t = 0; t < graph.tensors.size(); ++t) {
      const std::vector<int>& sets = found_.of_tensor[t];
      check((*activations)[t].size() == sets.size(),
            "equalize: tensor '{}' has ranges of {} of {} "
            "channels",
            graph.tensors[t].name, (*activations)[t].size(), sets.size());
      for (size_t c = 0; c < sets.size(); ++c) {
        if (sets[c] < 0) continue;
        double& v = observed_[static_cast<size_t>(sets[c])];
        v = std::max(v, static_cast<double>((*activations)[t][c]));
      }
    }
  }

  EqualizeReport run() {
    EqualizeReport report;
    report.channels = static_cast<int64_t>(scale_.size());
    std::set<std::pair<int, int>> pairs;
    for (const ChannelSet& set : found_.sets)
      for (const ChannelUse& m : set.makers)
        for (const ChannelUse& r : set.readers) pairs.emplace(m.node, r.node);
    report.pairs = static_cast<int64_t>(pairs.size());
    double moved = 1.0;
    while (report.sweeps < config_.sweeps && moved > config_.tolerance && report.channels > 0) {
      moved = sweep();
      ++report.sweeps;
    }
    for (const double s : scale_) report.largest = std::max({report.largest, s, 1.0 / s});
    return report;
  }

  // w[o, ..., i] * s(i) / s(o), b[o] / s(o); behind an activation that does not commute with a factor,
  // 1 / s(o) becomes a gain.
  void apply(Graph& graph) const {
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
      Node& node = graph.nodes[n];
      if (!node.has_weight()) continue;
      const Extent& e = extents_[n];
      const int64_t taps = node.weight.dim(1) * node.weight.dim(2);
      node.weight = node.weight.clone();
      if (node.bias.defined()) node.bias = node.bias.clone();
      set_gains(node, e.rows);
      float* w = node.weight.f32();
      for (int64_t o = 0; o < e.rows; ++o) {
        const double out = commutes(node) ? scale_of(node.output, o) : 1.0;
        for (int64_t k = 0; k < taps; ++k)
          for (int64_t i = 0; i < e.columns; ++i, ++w)
            *w = static_cast<float>(*w * (input_scale(n, o, i) / out));
        if (node.bias.defined()) node.bias.f32()[o] = static_cast<float>(node.bias.f32()[o] / out);
      }
    }
  }

 private:
  static bool commutes(const Node& node) {
    return kernels::traits_of(node.activation()).homogeneous;
  }
  void set_gains(Node& node, int64_t channels) const {
    if (commutes(node)) return;
    bool any = false;
    Tensor gain(Shape{channels});
    for (int64_t o = 0; o < channels; ++o) {
      const double s = scale_of(node.output, o);
      any = any || s != 1.0;
      gain.f32()[o] = static_cast<float>((node.gain.defined() ? node.gain.f32()[o] : 1.0) / s);
    }
    if (any) node.gain = gain;
  }
  double scale_of(int tensor, int64_t channel) const {
    const int set = found_.of_tensor[static_cast<size_t>(tensor)][static_cast<size_t>(channel)];
    return set < 0 ? 1.0 : scale_[static_cast<size_t>(set)];
  }
  double input_scale(size_t node, int64_t o, int64_t i) const {
    const Extent& e = extents_[node];
    return scale_of(graph_.nodes[node].inputs[0], o / e.rows_per_group * e.columns + i);
  }
  double current(size_t node, int64_t o, int64_t i) const {
    return extents_[node].at(o, i) * input_scale(node, o, i) /
           scale_of(graph_.nodes[node].output, o);
  }
  double row_range(size_t node, int64_t o) const {
    double r = 0.0;
    for (int64_t i = 0; i < extents_[node].columns; ++i) r = std::max(r, current(node, o, i));
    return r;
  }
  double column_range(const ChannelUse& use) const {
    const size_t n = static_cast<size_t>(use.node);
    const Extent& e = extents_[n];
    const int64_t group = use.channel / e.columns;
    double r = 0.0;
    for (int64_t o = group * e.rows_per_group; o < (group + 1) * e.rows_per_group; ++o) {
      const double value = current(n, o, use.channel % e.columns);
      const double row = rows_.empty() ? 1.0 : rows_[n][static_cast<size_t>(o)];
      if (value > 0) r = std::max(r, value / row);
    }
    return r;
  }

  // Returns the largest distance of a factor from 1.
  double sweep() {
    rows_.clear();
    if (!observed_.empty()) {
      rows_.resize(extents_.size());
      for (size_t n = 0; n < extents_.size(); ++n)
        for (int64_t o = 0; o < extents_[n].rows; ++o) rows_[n].push_back(row_range(n, o));
    }
    double moved = 0.0;
    for (size_t k = 0; k < scale_.size(); ++k) {
      const ChannelSet& set = found_.sets[k];
      double first = 0.0;
      double next = 0.0;
      if (observed_.empty())
        for (const ChannelUse& m : set.makers)
          first = std::max(first, row_range(static_cast<size_t>(m.node), m.channel));
      else
        first = observed_[k] / scale_[k];
      for (const ChannelUse& r : set.readers) next = std::max(next, column_range(r));
      if (first <= 0.0 || next <= 0.0) continue;  // a dead channel: nothing to equalize
      const double wanted =
          std::clamp(scale_[k] * std::sqrt(first / next), 1.0 / config_.limit, config_.limit);
      moved = std::max(moved, std::abs(wanted / scale_[k] - 1.0));
      scale_[k] = wanted;
    }
    return moved;
  }

  const Graph& graph_;
  const EqualizeConfig& config_;
  ChannelSets found_;
  std::vector<double> scale_;              // s of each set
  std::vector<double> observed_;           // largest |x| of each set; empty: data-free
  std::vector<Extent> extents_;            // by node
  std::vector<std::vector<double>> rows_;  // by node: row ranges at the start of the sweep
};

}  // namespace

ChannelRanges observe_channels(const Graph& graph, const std::vector<Tensor>& images) {
  ChannelRanges ranges(graph.tensors.size());
  for (size_t t = 0; t < ranges.size(); ++t)
    if (const Shape& s = graph.tensors[t].shape; s.rank() == 4)
      ranges[t].assign(static_cast<size_t>(s[3]), 0.0f);
  std::optional<deploy::Engine> engine;
  for (const Tensor& batch : images) {
    const deploy::EngineConfig wanted{
        .batch = batch.dim(0), .height = batch.dim(1), .width = batch.dim(2)};
    if (!engine || engine->config().batch != wanted.batch) engine.emplace(graph, wanted);
    engine->run(batch, [&](const deploy::TensorView& v) {
      if (v.shape.rank() != 4) return;
      float* range = ranges[static_cast<size_t>(v.id)].data();
      const Tensor values = v.values();
      const int64_t channels = v.shape[3];
      for (int64_t r = 0; r < values.numel(); r += channels) {
        const float* x = values.f32() + r;
#pragma omp simd
        for (int64_t c = 0; c < channels; ++c) {
          const float a = std::fabs(x[c]);
          range[c] = range[c] < a ? a : range[c];
        }
      }
    });
  }
  return ranges;
}

EqualizeReport equalize(Graph& graph, const EqualizeConfig& config,
                        const ChannelRanges* activations) {
  Equalizer equalizer(graph, config, activations);
  const EqualizeReport report = equalizer.run();
  equalizer.apply(graph);
  return report;
}

}  // namespace sextant::quant
