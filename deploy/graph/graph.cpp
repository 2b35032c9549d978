// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/graph.h"

#include <algorithm>

#include "deploy/graph/node_rules.h"

namespace sextant::deploy {

bool Node::has_weight() const { return rules_of(*this).weight.has_value(); }

bool Node::has_residual() const {
  const auto* conv = std::get_if<ConvAttributes>(&attributes);
  return conv && conv->residual;
}

Activation Node::activation() const {
  const Activation* a = activation_of(attributes);
  return a ? *a : Activation::kIdentity;
}

void Node::wrong_kind() const { fail("deploy: node '{}' is of kind {}", name, name_of(kind())); }

float TensorInfo::scale() const {
  if (!has_range()) return 1.0f;
  return amax / (is_unsigned ? 255.0f : 127.0f);
}

std::string common_path(const std::string& a, const std::string& b) {
  size_t same = 0;
  for (size_t i = 0;; ++i) {
    const bool end_a = i == a.size() || a[i] == '.';
    const bool end_b = i == b.size() || b[i] == '.';
    if (end_a && end_b) same = i;
    if (i >= a.size() || i >= b.size() || a[i] != b[i]) break;
  }
  return a.substr(0, same);
}

std::string Graph::label() const { return source.empty() ? "the model" : source; }

int64_t Graph::width_for(int64_t size) const {
  return image_width > 0 && size == image_size ? image_width : size;
}

const Node* Graph::decode() const {
  const auto last = std::ranges::find(nodes, output, &Node::output);
  return last != nodes.end() && last->is<DecodeAttributes>() ? &*last : nullptr;
}

int Graph::find_tensor(const std::string& name) const {
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].name == name) return static_cast<int>(i);
  return -1;
}

const Node* Graph::find_node(const std::string& name) const {
  for (const Node& node : nodes)
    if (node.name == name) return &node;
  return nullptr;
}

std::vector<int> Graph::producers() const {
  std::vector<int> made(tensors.size(), -1);
  for (size_t i = 0; i < nodes.size(); ++i)
    made[static_cast<size_t>(nodes[i].output)] = static_cast<int>(i);
  return made;
}

std::vector<std::vector<int>> Graph::consumers() const {
  std::vector<std::vector<int>> read(tensors.size());
  for (size_t i = 0; i < nodes.size(); ++i)
    for (const int t : nodes[i].inputs) read[static_cast<size_t>(t)].push_back(static_cast<int>(i));
  return read;
}

bool Graph::quantized() const {
  return input >= 0 && tensors[static_cast<size_t>(input)].has_range();
}

bool is_fused(const Graph& graph) {
  return std::ranges::none_of(graph.nodes, [](const Node& n) { return rules_of(n).only_traced; });
}

void check_fused(const Graph& graph) {
  for (const Node& node : graph.nodes)
    check(!rules_of(node).only_traced, "{}: node '{}' has not been fused; call fuse() first",
          graph.label(), node.name);
}

}  // namespace sextant::deploy
