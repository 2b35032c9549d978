// SPDX-License-Identifier: Apache-2.0
#include "quant/layers/float_layers.h"

#include <algorithm>

#include "core/config.h"
#include "deploy/graph/ranges.h"

namespace sextant::quant {
namespace {

using deploy::Graph;
using deploy::Node;
using deploy::Precision;

void drop_unread_ranges(Graph& graph) {
  std::vector<bool> read(graph.tensors.size(), false);     // read by an int8 layer
  std::vector<bool> touched(graph.tensors.size(), false);  // made or read by a float layer
  const auto group = [&](int t) {
    const deploy::TensorInfo& info = graph.tensors[static_cast<size_t>(t)];
    check(info.group >= 0, "tensor '{}' has no range group; quantize the model first", info.name);
    return static_cast<size_t>(info.group);
  };
  for (const Node& node : graph.nodes) {
    if (!node.has_weight()) continue;
    if (deploy::runs_in_int8(graph, node)) {
      read[group(node.inputs[0])] = true;
      continue;
    }
    for (const int t : node.inputs) touched[group(t)] = true;
    touched[group(node.output)] = true;
  }
  const size_t image = group(graph.input);
  for (deploy::TensorInfo& info : graph.tensors) {
    const size_t g = static_cast<size_t>(info.group);
    if (g != image && touched[g] && !read[g]) info.amax = 0.0f;
  }
}

}  // namespace

std::vector<int> quantizable_layers(const Graph& graph) {
  std::vector<int> layers;
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (deploy::can_run_in_int8(graph, graph.nodes[i])) layers.push_back(static_cast<int>(i));
  return layers;
}

Graph with_float_layers(const Graph& graph, const std::vector<int>& layers, const Graph* exact) {
  check(graph.quantized(), "{}: has no activation ranges; run sextant quantize", graph.label());
  check(exact == nullptr || exact->nodes.size() == graph.nodes.size(),
        "float layers: graphs of {} and {} nodes", graph.nodes.size(),
        exact == nullptr ? 0 : exact->nodes.size());
  Graph result = graph;
  for (Node& node : result.nodes)
    if (node.has_weight())
      node.precision =
          deploy::can_run_in_int8(graph, node) ? Precision::kInt8 : Precision::kFloat32;
  for (const int l : layers) {
    check(l >= 0 && l < static_cast<int>(graph.nodes.size()) &&
              graph.nodes[static_cast<size_t>(l)].has_weight(),
          "float layers: node {} is not a convolution", l);
    Node& node = result.nodes[static_cast<size_t>(l)];
    node.precision = Precision::kFloat32;
    if (exact == nullptr) continue;
    node.weight = exact->nodes[static_cast<size_t>(l)].weight;
    node.bias = exact->nodes[static_cast<size_t>(l)].bias;
  }
  drop_unread_ranges(result);
  return result;
}

std::vector<int> other_layers(const Graph& graph, const std::vector<int>& layers) {
  std::vector<int> others;
  for (const int l : quantizable_layers(graph))
    if (std::ranges::find(layers, l) == layers.end()) others.push_back(l);
  return others;
}

bool matches_pattern(const std::string& pattern, const std::string& name) {
  size_t p = 0, n = 0;
  size_t star = std::string::npos, resume = 0;  // the last '*', and the end of its current match
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

namespace {

// The layers that a name or pattern matches.
std::vector<int> find_among(const Graph& graph, const std::vector<int>& layers,
                            const std::vector<std::string>& names) {
  std::vector<bool> wanted(graph.nodes.size(), false);
  std::vector<std::string> all;
  for (const int l : layers) all.push_back(graph.nodes[static_cast<size_t>(l)].name);
  for (const std::string& name : names) {
    bool found = false;
    for (size_t i = 0; i < layers.size(); ++i)
      if (matches_pattern(name, all[i])) wanted[static_cast<size_t>(layers[i])] = found = true;
    check(found, "no layer '{}'; nearest is '{}'", name, nearest_name(name, all));
  }
  std::vector<int> result;
  for (const int l : layers)
    if (wanted[static_cast<size_t>(l)]) result.push_back(l);
  return result;
}

std::vector<int> layers_in_float(const Graph& graph) {
  std::vector<int> layers;
  for (size_t n = 0; n < graph.nodes.size(); ++n)
    if (graph.nodes[n].has_weight() && graph.nodes[n].precision == Precision::kFloat32)
      layers.push_back(static_cast<int>(n));
  return layers;
}

}  // namespace

std::vector<int> find_layers(const Graph& graph, const std::vector<std::string>& names) {
  return find_among(graph, quantizable_layers(graph), names);
}

Graph with_named_in_float(const Graph& graph, const std::vector<std::string>& names) {
  std::vector<int> layers = find_layers(graph, names);
  for (const int l : layers_in_float(graph)) layers.push_back(l);
  return with_float_layers(graph, layers);
}

Graph with_image_in_float(const Graph& graph) {
  std::vector<int> layers = layers_in_float(graph);
  for (size_t n = 0; n < graph.nodes.size(); ++n)
    if (graph.nodes[n].has_weight() && deploy::holds_image(graph, graph.nodes[n].inputs[0]))
      layers.push_back(static_cast<int>(n));
  return with_float_layers(graph, layers);
}

void check_layers(const Graph& graph, const std::vector<std::string>& names) {
  if (graph.quantized()) {
    find_layers(graph, names);
    return;
  }
  Graph g = graph;
  deploy::unify_ranges(g);
  const std::vector<bool> wanted = deploy::groups_to_quantize(g);
  std::vector<int> layers;
  for (size_t i = 0; i < g.nodes.size(); ++i)
    if (g.nodes[i].has_weight() &&
        wanted[static_cast<size_t>(g.tensors[static_cast<size_t>(g.nodes[i].inputs[0])].group)])
      layers.push_back(static_cast<int>(i));
  find_among(g, layers, names);
}

}  // namespace sextant::quant
