// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/ranges.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "deploy/graph/node_rules.h"

namespace sextant::deploy {
namespace {

class Union {
 public:
  explicit Union(size_t n) : parent_(n) { std::iota(parent_.begin(), parent_.end(), 0); }
  int root(int i) {
    while (parent_[static_cast<size_t>(i)] != i) i = parent_[static_cast<size_t>(i)];
    return i;
  }
  void join(int a, int b) { parent_[static_cast<size_t>(root(a))] = root(b); }

 private:
  std::vector<int> parent_;
};

// Which tensors are never negative.
std::vector<bool> positive_tensors(const Graph& graph) {
  std::vector<bool> positive(graph.tensors.size(), false);
  for (const Node& node : graph.nodes) {
    std::vector<bool> inputs;
    for (const int t : node.inputs) inputs.push_back(positive[static_cast<size_t>(t)]);
    positive[static_cast<size_t>(node.output)] = rules_of(node).never_negative(node, inputs);
  }
  return positive;
}

}  // namespace

void unify_ranges(Graph& graph) {
  Union sets(graph.tensors.size());
  for (const Node& node : graph.nodes)
    for (const int t : inputs_in_output_range(node)) sets.join(t, node.output);
  const std::vector<bool> positive = positive_tensors(graph);
  std::vector<int> number(graph.tensors.size(), -1);
  int groups = 0;
  for (size_t t = 0; t < graph.tensors.size(); ++t) {
    int& n = number[static_cast<size_t>(sets.root(static_cast<int>(t)))];
    if (n < 0) n = groups++;
    graph.tensors[t].group = n;
  }
  std::vector<bool> group_positive(static_cast<size_t>(groups), true);
  for (size_t t = 0; t < graph.tensors.size(); ++t)
    if (!positive[t]) group_positive[static_cast<size_t>(graph.tensors[t].group)] = false;
  for (TensorInfo& info : graph.tensors)
    info.is_unsigned = group_positive[static_cast<size_t>(info.group)];
}

bool holds_image(const Graph& graph, int tensor) {
  const auto group = [&](int t) { return graph.tensors[static_cast<size_t>(t)].group; };
  return group(tensor) == group(graph.input);
}

void make_signed(Graph& graph) {
  for (int t = 0; t < std::ssize(graph.tensors); ++t)
    if (!holds_image(graph, t)) graph.tensors[static_cast<size_t>(t)].is_unsigned = false;
}

void separate_ranges(Graph& graph) {
  const std::vector<bool> positive = positive_tensors(graph);
  for (size_t t = 0; t < graph.tensors.size(); ++t) {
    graph.tensors[t].group = static_cast<int>(t);
    graph.tensors[t].is_unsigned = positive[t];
  }
}

std::vector<int> inputs_in_output_range(const Node& node) {
  const RangeRule rule = rules_of(node).range;
  if (rule == RangeRule::kShares || rule == RangeRule::kPasses) return node.inputs;
  if (node.has_residual()) return {node.inputs[1]};
  return {};
}

std::vector<bool> groups_to_quantize(const Graph& graph) {
  std::vector<bool> wanted(graph.tensors.size(), true);
  for (const Node& node : graph.nodes) {
    if (rules_of(node).range != RangeRule::kFloat) continue;
    wanted[static_cast<size_t>(graph.tensors[static_cast<size_t>(node.output)].group)] = false;
    for (const int t : node.inputs)
      wanted[static_cast<size_t>(graph.tensors[static_cast<size_t>(t)].group)] = false;
  }
  return wanted;
}

void assign_ranges(Graph& graph, const std::vector<float>& group_amax) {
  for (const TensorInfo& info : graph.tensors)
    check(info.group >= 0, "deploy: tensor '{}' has no range group; call unify_ranges() first",
          info.name);
  const std::vector<bool> wanted = groups_to_quantize(graph);
  const int image = graph.tensors[static_cast<size_t>(graph.input)].group;
  for (TensorInfo& info : graph.tensors) {
    const size_t g = static_cast<size_t>(info.group);
    info.amax = 0.0f;
    if (!wanted[g]) continue;
    check(g < group_amax.size() && std::isfinite(group_amax[g]),
          "deploy: tensor '{}': its range is not finite", info.name);
    info.amax = info.group == image ? 1.0f : std::max(group_amax[g], 2 * kTinyAmax);
  }
}

int64_t count_requantizations(const Graph& graph) {
  int64_t count = 0;
  const auto differ = [&](int a, int b) {
    const TensorInfo& x = graph.tensors[static_cast<size_t>(a)];
    const TensorInfo& y = graph.tensors[static_cast<size_t>(b)];
    return x.amax != y.amax || x.is_unsigned != y.is_unsigned;
  };
  for (const Node& node : graph.nodes)
    for (const int t : inputs_in_output_range(node)) count += differ(t, node.output);
  return count;
}

float weight_step(float amax) { return amax <= kTinyAmax ? 1.0f : amax / 127.0f; }

std::vector<float> weight_steps(const Tensor& weight) {
  std::vector<float> steps;
  const int64_t n = weight.numel() / weight.dim(0);
  const float* w = weight.f32();
  for (int64_t o = 0; o < weight.dim(0); ++o) {
    float amax = 0.0f;
    for (int64_t i = 0; i < n; ++i) amax = std::max(amax, std::abs(w[o * n + i]));
    steps.push_back(weight_step(amax));
  }
  return steps;
}

void set_weight_scales(Graph& graph) {
  for (Node& node : graph.nodes)
    if (node.has_weight()) node.weight_scale = weight_steps(node.weight);
}

std::vector<int8_t> quantize_weight(const Tensor& weight, const std::vector<float>& scale) {
  const int64_t o = weight.dim(0);
  const int64_t n = weight.numel() / o;
  const float* w = weight.f32();
  std::vector<int8_t> q(static_cast<size_t>(weight.numel()));
  for (int64_t i = 0; i < o; ++i) {
    const float inverse = 1.0f / scale[static_cast<size_t>(i)];
    for (int64_t j = 0; j < n; ++j) {
      const float r = std::nearbyint(w[i * n + j] * inverse);
      q[static_cast<size_t>(i * n + j)] =
          static_cast<int8_t>(std::min(127.0f, std::max(-127.0f, r)));
    }
  }
  return q;
}

namespace {

// Whether the ranges allow the node to run in int8.
bool ranges_allow_int8(const Graph& graph, const Node& node) {
  const auto ranged = [&](int t) { return graph.tensors[static_cast<size_t>(t)].has_range(); };
  return node.has_weight() && graph.quantized() && ranged(node.inputs[0]) &&
         (!node.has_residual() || ranged(node.inputs[1]) == ranged(node.output));
}

}  // namespace

bool can_run_in_int8(const Graph& graph, const Node& node) {
  return ranges_allow_int8(graph, node) && !node.weight_scale.empty();
}

bool runs_in_int8(const Graph& graph, const Node& node) {
  return node.precision == Precision::kInt8 && can_run_in_int8(graph, node);
}

void check_weight_scales(const Graph& graph) {
  for (const Node& node : graph.nodes)
    check(node.precision != Precision::kInt8 || !node.weight_scale.empty() ||
              !ranges_allow_int8(graph, node),
          "{}: node '{}' has no weight scales; run sextant quantize", graph.label(), node.name);
}

}  // namespace sextant::deploy
