// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/passes.h"

#include <algorithm>
#include <set>

#include "deploy/graph/conv_layers.h"

namespace sextant::deploy {
namespace {

// Replaces node `later` by `merged`, which makes its tensor from now on, and removes node
// `earlier`, which only `later` read.
Graph merge(Graph g, size_t earlier, size_t later, Node merged) {
  merged.output = g.nodes[later].output;
  g.tensors[static_cast<size_t>(merged.output)].name = merged.name;
  g.nodes[later] = std::move(merged);
  g.nodes.erase(g.nodes.begin() + static_cast<std::ptrdiff_t>(earlier));
  return remove_dead(g);
}

// Each performs one fold and returns false when nothing is left to fold.
bool fold_one_activation(Graph& g) {
  const std::vector<int> producers = g.producers();
  const auto consumers = g.consumers();
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    if (!g.nodes[i].is<ActivationAttributes>()) continue;
    const size_t before = static_cast<size_t>(g.nodes[i].inputs[0]);
    const size_t made = static_cast<size_t>(producers[before]);
    Node conv = g.nodes[made];
    // act(conv) + r is no longer linear in the convolution
    if (!conv.has_weight() || consumers[before].size() != 1 ||
        conv.activation() != Activation::kIdentity)
      continue;
    *activation_of(conv.attributes) = g.nodes[i].activation();
    if (conv.has_residual()) conv.as<ConvAttributes>().residual_before_activation = true;
    g = merge(std::move(g), made, i, std::move(conv));
    return true;
  }
  return false;
}

bool fold_one_residual(Graph& g) {
  const std::vector<int> producers = g.producers();
  const auto consumers = g.consumers();
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    if (!g.nodes[i].is<AddAttributes>()) continue;
    for (size_t side = 2; side-- > 0;) {
      const size_t before = static_cast<size_t>(g.nodes[i].inputs[side]);
      const size_t made = static_cast<size_t>(producers[before]);
      Node conv = g.nodes[made];
      const float scale = g.nodes[i].as<AddAttributes>().residual_scale;
      if (!conv.is<ConvAttributes>() || conv.has_residual() || consumers[before].size() != 1 ||
          (side == 1 && scale != 1.0f))
        continue;
      conv.as<ConvAttributes>().residual = true;
      conv.as<ConvAttributes>().residual_scale = scale;
      conv.inputs.push_back(g.nodes[i].inputs[1 - side]);
      g = merge(std::move(g), made, i, std::move(conv));
      return true;
    }
  }
  return false;
}

// Whether the node multiplies each channel by a positive number, and does nothing else.
bool is_positive_factor(const Node& node) {
  if (!is_channel_scale(node) || node.gain.defined()) return false;
  const auto zero = [](float b) { return b == 0.0f; };
  const auto positive = [](float w) { return w > 0.0f; };
  return std::ranges::all_of(node.weight.span<float>(), positive) &&
         (!node.bias.defined() || std::ranges::all_of(node.bias.span<float>(), zero));
}

bool fold_one_gain(Graph& g) {
  const std::vector<int> producers = g.producers();
  const auto consumers = g.consumers();
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const Node& factor = g.nodes[i];
    if (!is_positive_factor(factor)) continue;
    const size_t before = static_cast<size_t>(factor.inputs[0]);
    const size_t made = static_cast<size_t>(producers[before]);
    Node conv = g.nodes[made];
    if (!conv.has_weight() || conv.gain.defined() || consumers[before].size() != 1 ||
        conv.activation() == Activation::kIdentity || g.tensors[before].has_range() ||
        conv_attributes(conv).residual_place() == ResidualPlace::kAfterActivation)
      continue;
    conv.gain = factor.weight.reshape({factor.weight.numel()}).clone();
    g = merge(std::move(g), made, i, std::move(conv));
    return true;
  }
  return false;
}

// Duplicate names get a number.
void make_names_unique(Graph& g) {
  std::set<std::string> taken;
  for (Node& node : g.nodes) {
    const std::string base = node.name;
    for (int n = 2; !taken.insert(node.name).second; ++n) node.name = fmt::format("{}_{}", base, n);
    g.tensors[static_cast<size_t>(node.output)].name = node.name;
  }
}

}  // namespace

Graph remove_dead(const Graph& graph) {
  std::vector<bool> wanted(graph.tensors.size(), false);
  std::vector<bool> keep(graph.nodes.size(), false);
  wanted[static_cast<size_t>(graph.output)] = true;
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    keep[i] = wanted[static_cast<size_t>(node.output)] || node.output == graph.input;
    if (keep[i])
      for (const int t : node.inputs) wanted[static_cast<size_t>(t)] = true;
  }
  Graph result;
  result.class_names = graph.class_names;
  result.image_size = graph.image_size;
  result.image_width = graph.image_width;
  result.gray_border = graph.gray_border;
  result.source = graph.source;
  std::vector<int> renumbered(graph.tensors.size(), -1);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!keep[i]) continue;
    Node node = graph.nodes[i];
    renumbered[static_cast<size_t>(node.output)] = static_cast<int>(result.tensors.size());
    result.tensors.push_back(graph.tensors[static_cast<size_t>(node.output)]);
    node.output = static_cast<int>(result.tensors.size()) - 1;
    for (int& t : node.inputs) t = renumbered[static_cast<size_t>(t)];
    result.nodes.push_back(std::move(node));
  }
  make_names_unique(result);
  result.input = renumbered[static_cast<size_t>(graph.input)];
  result.output = renumbered[static_cast<size_t>(graph.output)];
  return result;
}

Graph fold_activation(const Graph& graph) {
  Graph g = graph;
  while (fold_one_activation(g)) {
  }
  return g;
}

Graph fold_residual(const Graph& graph) {
  Graph g = graph;
  while (fold_one_residual(g)) {
  }
  return g;
}

Graph fold_gain(const Graph& graph) {
  Graph g = graph;
  while (fold_one_gain(g)) {
  }
  return g;
}

Graph fuse(const Graph& graph) {
  // conv -> activation -> gain -> add and conv -> add -> activation -> gain each become one node
  Graph g = fold_gain(fold_activation(fold_linear(graph)));
  g = fold_gain(fold_activation(fold_residual(g)));
  for (Node& node : g.nodes) {
    if (node.weight.defined()) node.weight = node.weight.clone();
    if (node.bias.defined()) node.bias = node.bias.clone();
  }
  validate(g);
  return g;
}

}  // namespace sextant::deploy
