// SPDX-License-Identifier: Apache-2.0
#include "quant/layers/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>

#include "core/progress.h"
#include "quant/layers/float_layers.h"
#include "quant/layers/incremental_runner.h"

namespace sextant::quant {
namespace {

using deploy::Graph;

// Sums of one output over the images.
struct ErrorSums {
  double signal = 0, noise = 0, product = 0, other = 0;
  double values = 0;

  void add(const Tensor& exact, const Tensor& got) {
    const float* x = exact.f32();
    const float* y = got.f32();
    double s = 0, n = 0, p = 0, o = 0;
#pragma omp simd reduction(+ : s, n, p, o)
    for (int64_t i = 0; i < exact.numel(); ++i) {
      const double a = x[i], b = y[i];
      s += a * a;
      n += (b - a) * (b - a);
      p += a * b;
      o += b * b;
    }
    signal += s;
    noise += n;
    product += p;
    other += o;
    values += static_cast<double>(exact.numel());
  }
};

OutputError mean_of(const std::vector<ErrorSums>& outputs) {
  OutputError e{0, 0, 0};
  for (const ErrorSums& s : outputs) {
    e.noise += s.signal > 0 ? s.noise / s.signal : (s.noise > 0 ? 1.0 : 0.0);
    e.mse += s.noise / std::max(s.values, 1.0);
    const double lengths = std::sqrt(s.signal * s.other);
    e.cosine += lengths > 0 ? s.product / lengths : (s.noise > 0 ? 0.0 : 1.0);
  }
  const double n = static_cast<double>(outputs.size());
  return {e.noise / n, e.mse / n, e.cosine / n};
}

double loss_of(const OutputError& e, Metric metric) {
  if (metric == Metric::kMse) return e.mse;
  if (metric == Metric::kCosine) return 1 - e.cosine;
  return e.noise;
}

Tensor part_of(const Tensor& images, int64_t begin, int64_t end) {
  const Shape& s = images.shape();
  Tensor part(Shape{end - begin, s[1], s[2], s[3]}, DType::kU8);
  const int64_t one = images.numel() / s[0];
  std::memcpy(part.raw(), images.data<uint8_t>() + begin * one,
              static_cast<size_t>((end - begin) * one));
  return part;
}

// The graph that measures a layer.
Graph variant(const Graph& graph, const SensitivityConfig& config, int layer) {
  const std::vector<int> one{layer};
  return with_float_layers(graph, config.all_but ? one : other_layers(graph, one), config.exact);
}

// The graphs to run for each layer, and the graph to compare them with.
class Scorer {
 public:
  Scorer(const Graph& graph, const SensitivityConfig& config)
      : graph_(graph),
        config_(config),
        layers_(quantizable_layers(graph)),
        outputs_(judged_tensors(graph)),
        all_float_(with_float_layers(graph, layers_, config.exact)),
        all_int8_(with_float_layers(graph, {})) {
    for (const int l : layers_) {
      variants_.push_back(variant(graph, config, l));
      judged_.push_back(config.own_output
                            ? std::vector<int>{graph.nodes[static_cast<size_t>(l)].output}
                            : outputs_);
    }
    sums_.resize(layers_.size());
    for (size_t i = 0; i < layers_.size(); ++i) sums_[i].resize(judged_[i].size());
    int8_sums_.resize(outputs_.size());
  }

  void run(const Tensor& images, Sensitivity& result) {
    const int64_t n = images.dim(0), height = images.dim(1), width = images.dim(2);
    const int64_t bytes = 2 * activation_bytes(graph_, height, width);
    const int64_t batch = std::clamp<int64_t>(config_.memory / bytes, 1, std::min<int64_t>(n, 8));
    std::unique_ptr<IncrementalRunner> runner;
    int64_t runner_batch = 0;
    Progress progress("sensitivity", n * static_cast<int64_t>(layers_.size()));
    for (int64_t begin = 0; begin < n; begin += batch) {
      const int64_t end = std::min(begin + batch, n);
      if (end - begin != runner_batch) {
        runner_batch = end - begin;
        runner.reset();  // frees its memory before the next runner allocates
        runner = std::make_unique<IncrementalRunner>(config_.all_but ? all_int8_ : all_float_,
                                                     runner_batch, height, width);
      }
      const Tensor part = part_of(images, begin, end);
      runner->run_base(part);
      score(*runner, progress, begin, end);
    }
    progress.finish();
    for (size_t i = 0; i < layers_.size(); ++i) result.layers.push_back({});
    for (size_t i = 0; i < layers_.size(); ++i) result.layers[i].error = mean_of(sums_[i]);
    if (!config_.own_output) result.all_int8 = mean_of(int8_sums_);
    result.images = n;
  }

 private:
  void score(IncrementalRunner& runner, Progress& progress, int64_t begin, int64_t end) {
    // the outputs in float and with all layers in int8 come from the base and from a variant
    std::vector<Tensor> base, other;
    if (!config_.own_output) {
      for (const int t : outputs_) base.push_back(runner.base_values(t));
      other = runner.run(config_.all_but ? all_float_ : all_int8_, outputs_);
    }
    const std::vector<Tensor>& exact = config_.all_but ? other : base;
    for (size_t k = 0; k < base.size(); ++k)
      int8_sums_[k].add(exact[k], config_.all_but ? base[k] : other[k]);
    for (size_t i = 0; i < layers_.size(); ++i) {
      const std::vector<Tensor> got = runner.run(variants_[i], judged_[i]);
      for (size_t k = 0; k < got.size(); ++k)
        sums_[i][k].add(config_.own_output ? runner.base_values(judged_[i][k]) : exact[k], got[k]);
      const int64_t n = static_cast<int64_t>(layers_.size());
      progress.update(begin * n + (static_cast<int64_t>(i) + 1) * (end - begin));
    }
  }

  const Graph& graph_;
  const SensitivityConfig& config_;
  std::vector<int> layers_, outputs_;
  Graph all_float_, all_int8_;
  std::vector<Graph> variants_;           // one per layer
  std::vector<std::vector<int>> judged_;  // tensors to compare, for each layer
  std::vector<std::vector<ErrorSums>> sums_;
  std::vector<ErrorSums> int8_sums_;
};

void score_by_accuracy(const Graph& graph, const Accuracy& accuracy, Sensitivity& result) {
  const std::vector<int> layers = quantizable_layers(graph);
  result.float_accuracy = accuracy(with_float_layers(graph, layers, result.config.exact));
  result.int8_accuracy = accuracy(with_float_layers(graph, {}));
  Progress progress("sensitivity", static_cast<int64_t>(layers.size()));
  for (const int l : layers) {
    LayerScore score;
    score.accuracy = accuracy(variant(graph, result.config, l));
    result.layers.push_back(score);
    progress.update(static_cast<int64_t>(result.layers.size()));
  }
  progress.finish();
}

double harm_of(const LayerScore& s, const Sensitivity& all) {
  const SensitivityConfig& c = all.config;
  if (c.metric == Metric::kMap)
    return c.all_but ? s.accuracy - all.int8_accuracy : all.float_accuracy - s.accuracy;
  const double loss = loss_of(s.error, c.metric);
  return c.all_but ? loss_of(all.all_int8, c.metric) - loss : loss;
}

// 1 for the smallest; equal values share the mean of their ranks.
std::vector<double> ranks_of(const std::vector<double>& v) {
  std::vector<size_t> order(v.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, [&](size_t a, size_t b) { return v[a] < v[b]; });
  std::vector<double> ranks(v.size());
  for (size_t i = 0; i < order.size();) {
    size_t end = i;
    while (end < order.size() && v[order[end]] == v[order[i]]) ++end;
    for (size_t k = i; k < end; ++k) ranks[order[k]] = 0.5 * static_cast<double>(i + 1 + end);
    i = end;
  }
  return ranks;
}

}  // namespace

double OutputError::sqnr() const { return -10 * std::log10(std::max(noise, 1e-15)); }

std::vector<int> judged_tensors(const Graph& graph) {
  const deploy::Node* decode = graph.decode();
  return decode ? decode->inputs : std::vector<int>{graph.output};
}

Sensitivity rank_layers(const Graph& graph, const Tensor& images, const SensitivityConfig& config,
                        const Accuracy& accuracy) {
  const std::vector<int> layers = quantizable_layers(graph);
  check(!layers.empty(), "{}: no layer can run in int8; quantize the model first", graph.label());
  check(!config.own_output || (!config.all_but && config.metric != Metric::kMap),
        "sensitivity: a layer's own output cannot measure {}",
        config.all_but ? "all but that layer" : "mAP");
  Sensitivity result;
  result.config = config;
  if (config.metric == Metric::kMap) {
    check(accuracy != nullptr, "sensitivity: metric map needs an evaluation function");
    score_by_accuracy(graph, accuracy, result);
  } else {
    check(images.defined() && images.shape().rank() == 4 && images.dim(0) > 0,
          "sensitivity: no images");
    Scorer(graph, config).run(images, result);
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    LayerScore& s = result.layers[i];
    s.node = layers[i];
    s.name = graph.nodes[static_cast<size_t>(layers[i])].name;
    s.harm = harm_of(s, result);
  }
  std::ranges::stable_sort(result.layers, std::greater{}, &LayerScore::harm);
  return result;
}

double spearman(const std::vector<double>& a, const std::vector<double>& b) {
  check(a.size() == b.size(), "spearman: {} and {} values", a.size(), b.size());
  const std::vector<double> x = ranks_of(a), y = ranks_of(b);
  const double mean = 0.5 * static_cast<double>(a.size() + 1);
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0.0;
}

}  // namespace sextant::quant
