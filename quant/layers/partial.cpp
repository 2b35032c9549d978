// SPDX-License-Identifier: Apache-2.0
#include "quant/layers/partial.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "quant/layers/float_layers.h"

namespace sextant::quant {
namespace {

using deploy::Graph;

std::vector<int> with(std::vector<int> layers, int layer) {
  layers.insert(std::ranges::upper_bound(layers, layer), layer);
  return layers;
}
std::vector<int> without(std::vector<int> layers, int layer) {
  std::erase(layers, layer);
  return layers;
}
bool contains(const std::vector<int>& layers, int layer) {
  return std::ranges::binary_search(layers, layer);
}

// The models of noise and time.
class Model {
 public:
  Model(const Graph& graph, const Sensitivity& sensitivity, const PartialMeasures& measures)
      : graph_(graph), measures_(measures), layers_(quantizable_layers(graph)) {
    check(!sensitivity.config.all_but && !sensitivity.config.own_output &&
              sensitivity.config.metric != Metric::kMap,
          "partial: needs the sensitivity of each layer alone, at the network's outputs");
    noise_.assign(graph.nodes.size(), 0.0);
    size_t known = 0;
    for (const LayerScore& s : sensitivity.layers) {
      noise_.at(static_cast<size_t>(s.node)) = s.error.noise;
      known += std::ranges::count(layers_, s.node);
    }
    check(known == layers_.size(), "partial: the sensitivity was measured on another model");
    float_ms_ = std::accumulate(measures.times.fp32.begin(), measures.times.fp32.end(), 0.0);
  }

  const std::vector<int>& layers() const { return layers_; }
  double float_ms() const { return float_ms_; }
  double noise(int layer) const { return noise_[static_cast<size_t>(layer)]; }
  double ms(const std::vector<int>& layers) const {
    return ms_of(with_float_layers(graph_, layers));
  }

  PartialPoint point(const std::vector<int>& layers) const {
    PartialPoint p;
    p.layers = layers;
    for (const int l : layers_)
      if (!contains(layers, l)) p.noise += noise(l);
    p.predicted_ms = ms(layers);
    p.predicted_speedup = float_ms_ / p.predicted_ms;
    return p;
  }

  // The layer with the most noise per millisecond among those that `allowed` accepts; -1 if none
  // is.
  template <class Allowed>
  int best_addition(const std::vector<int>& layers, const Allowed& allowed) const {
    const double now = ms(layers);
    int best = -1;
    double best_rate = -1, best_noise = -1;
    for (const int l : layers_) {
      if (contains(layers, l)) continue;
      const double then = ms(with(layers, l));
      if (!allowed(l, then)) continue;
      const double cost = then - now;
      const double rate = cost > 0 ? noise(l) / cost : std::numeric_limits<double>::infinity();
      if (rate > best_rate || (rate == best_rate && noise(l) > best_noise)) {
        best = l;
        best_rate = rate;
        best_noise = noise(l);
      }
    }
    return best;
  }

 private:
  double ms_of(const Graph& graph) const {
    return predict_ms(graph, measures_.times, measures_.batch, measures_.height, measures_.width);
  }

  const Graph& graph_;
  const PartialMeasures& measures_;
  std::vector<int> layers_;
  std::vector<double> noise_;  // per node
  double float_ms_ = 0;
};

std::vector<PartialPoint> path_of(const Model& model, const std::vector<int>& always) {
  std::vector<PartialPoint> path{model.point(always)};
  while (path.back().layers.size() < model.layers().size()) {
    const int next = model.best_addition(path.back().layers, [](int, double) { return true; });
    path.push_back(model.point(with(path.back().layers, next)));
  }
  return path;
}

class Chooser {
 public:
  Chooser(const Graph& graph, const Sensitivity& sensitivity, const PartialMeasures& measures,
          const PartialConfig& config)
      : graph_(graph),
        measures_(measures),
        config_(config),
        model_(graph, sensitivity, measures),
        always_(config.always) {
    std::ranges::sort(always_);
    for (const int l : always_)
      check(std::ranges::binary_search(model_.layers(), l), "partial: node {} cannot be in int8",
            l);
    path_ = path_of(model_, always_);
  }

  PartialResult run() {
    PartialResult result;
    float_accuracy_ = measures_.accuracy(with_float(model_.layers()));
    ++evaluations_;
    PartialPoint all_float = path_.back();
    all_float.accuracy = float_accuracy_;
    all_float.speedup = 1.0;
    all_float.predicted_speedup = 1.0;
    known_.push_back(all_float);
    const std::vector<int> chosen = config_.max_drop      ? for_drop(*config_.max_drop)
                                    : config_.min_speedup ? for_speedup(*config_.min_speedup)
                                                          : always_;
    measure_extra_points();
    for (const auto& layers : {always_, chosen}) accuracy(layers);
    for (PartialPoint& p : known_)
      if (!p.speedup) p.speedup = measures_.speedup(with_float(p.layers));
    std::ranges::stable_sort(known_, std::less{}, &PartialPoint::predicted_ms);
    result.curve = known_;
    const auto found = std::ranges::find(known_, chosen, &PartialPoint::layers);
    result.chosen = static_cast<size_t>(found - known_.begin());
    if (config_.max_drop || config_.min_speedup) result.chosen = undominated(result.chosen);
    result.graph = with_float(known_[result.chosen].layers);
    result.float_accuracy = float_accuracy_;
    result.float_ms = model_.float_ms();
    result.evaluations = evaluations_;
    return result;
  }

 private:
  Graph with_float(const std::vector<int>& layers) const {
    return with_float_layers(graph_, layers, config_.exact);
  }
  // A measured set that is at least as accurate and as fast and better in one of them, where there
  // is one: it meets the target too, and the models that led past it are only models.
  size_t undominated(size_t chosen) const {
    for (size_t i = 0; i < known_.size(); ++i) {
      const PartialPoint &p = known_[i], &best = known_[chosen];
      if (*p.accuracy >= *best.accuracy && *p.speedup >= *best.speedup &&
          (*p.accuracy > *best.accuracy || *p.speedup > *best.speedup))
        chosen = i;
    }
    return chosen;
  }
  PartialPoint& known(const std::vector<int>& layers) {
    const auto found = std::ranges::find(known_, layers, &PartialPoint::layers);
    if (found != known_.end()) return *found;
    known_.push_back(model_.point(layers));
    return known_.back();
  }
  double accuracy(const std::vector<int>& layers) {
    PartialPoint& p = known(layers);
    if (!p.accuracy) {
      p.accuracy = measures_.accuracy(with_float(layers));
      ++evaluations_;
    }
    return *p.accuracy;
  }
  double speedup(const std::vector<int>& layers) {
    PartialPoint& p = known(layers);
    if (!p.speedup) p.speedup = measures_.speedup(with_float(layers));
    return *p.speedup;
  }

  std::vector<int> for_drop(double max_drop) {
    const auto good = [&](const std::vector<int>& layers) {
      return float_accuracy_ - accuracy(layers) <= max_drop;
    };
    if (good(path_.front().layers)) return path_.front().layers;
    size_t low = 0, high = path_.size() - 1;  // too few, enough
    while (high - low > 1) {
      const size_t middle = (low + high) / 2;
      (good(path_[middle].layers) ? high : low) = middle;
    }
    std::vector<int> layers = path_[high].layers;
    // the path is greedy: later layers may have made some earlier ones unnecessary
    std::vector<std::pair<double, int>> saved;
    for (const int l : layers)
      if (!contains(always_, l))
        saved.emplace_back(path_[high].predicted_ms - model_.ms(without(layers, l)), l);
    std::ranges::stable_sort(saved, std::greater{}, &std::pair<double, int>::first);
    int trials = config_.trials;
    for (const auto& [ms, l] : saved) {
      const std::vector<int> fewer = without(layers, l);
      if (ms <= 0 || fewer == path_[low].layers) continue;
      if (trials-- <= 0) break;
      if (good(fewer)) layers = fewer;
    }
    return layers;
  }

  std::vector<int> for_speedup(double wanted) {
    const double most = speedup(path_.front().layers);
    check(most >= wanted,
          "a speed-up of {} is out of reach: with {} the engine is {:.2f} times as fast as fp32",
          wanted, always_.empty() ? "every layer in int8" : "the named layers in float", most);
    if (wanted <= 1) return path_.back().layers;
    size_t low = 0, high = path_.size() - 1;  // fast enough, too slow
    size_t next = 0;                          // first the predicted end, then bisection
    while (next + 1 < path_.size() && path_[next + 1].predicted_speedup >= wanted) ++next;
    while (high - low > 1) {
      const size_t middle = std::clamp(next, low + 1, high - 1);
      (speedup(path_[middle].layers) >= wanted ? low : high) = middle;
      next = (low + high) / 2;
    }
    const std::vector<int>& prefix = path_[low].layers;
    // the layers that fit into the remaining time, by predictions corrected by the time measured
    // for this set
    const double correction = speedup(prefix) / path_[low].predicted_speedup;
    const double budget = model_.float_ms() * correction / wanted;
    std::vector<int> filled = prefix;
    for (;;) {
      const int more = model_.best_addition(
          filled, [&](int l, double ms) { return ms <= budget && model_.noise(l) > 0; });
      if (more < 0) break;
      filled = with(filled, more);
    }
    return filled != prefix && speedup(filled) >= wanted ? filled : prefix;
  }

  // Sets at even distances along the path, for the curve.
  void measure_extra_points() {
    const int n = config_.extra_points;
    for (int i = 1; i <= n; ++i)
      accuracy(
          path_[static_cast<size_t>(i) * (path_.size() - 1) / static_cast<size_t>(n + 1)].layers);
  }

  const Graph& graph_;
  const PartialMeasures& measures_;
  const PartialConfig& config_;
  Model model_;
  std::vector<int> always_;
  std::vector<PartialPoint> path_;
  std::vector<PartialPoint> known_;
  double float_accuracy_ = 0;
  int64_t evaluations_ = 0;
};

}  // namespace

std::vector<PartialPoint> float_path(const Graph& graph, const Sensitivity& sensitivity,
                                     const PartialMeasures& measures,
                                     const std::vector<int>& always) {
  std::vector<int> sorted = always;
  std::ranges::sort(sorted);
  return path_of(Model(graph, sensitivity, measures), sorted);
}

PartialResult choose_float_layers(const Graph& graph, const Sensitivity& sensitivity,
                                  const PartialMeasures& measures, const PartialConfig& config) {
  check(measures.accuracy && measures.speedup,
        "partial: needs functions that measure accuracy and speed");
  check(!config.max_drop || !config.min_speedup,
        "partial: give either a drop or a speed-up as the target, not both");
  return Chooser(graph, sensitivity, measures, config).run();
}

}  // namespace sextant::quant
