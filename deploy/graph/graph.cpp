#include "deploy/graph/graph.h"

#include <array>

#include "deploy/graph/ranges.h"

namespace sextant::deploy {
namespace {

constexpr std::array<const char*, 13> kKindNames = {
    "input",      "conv",  "deconv",          "max_pool", "upsample",   "concat", "add",
    "activation", "slice", "global_avg_pool", "softmax",  "rep_bn_act", "decode"};

}  // namespace

const char* name_of(NodeKind kind) { return kKindNames[static_cast<size_t>(kind)]; }

NodeKind node_kind_from_name(const std::string& name) {
  for (size_t i = 0; i < kKindNames.size(); ++i)
    if (name == kKindNames[i]) return static_cast<NodeKind>(i);
  fail("deploy: unknown node kind '{}'", name);
}

const char* name_of(Precision p) {
  switch (p) {
    case Precision::kFloat32:
      return "fp32";
    case Precision::kFloat16:
      return "fp16";
    case Precision::kInt8:
      return "int8";
    case Precision::kInteger:
      return "integer";
  }
  return "?";
}

Precision precision_from_name(const std::string& name) {
  for (const Precision p : {Precision::kFloat32, Precision::kFloat16, Precision::kInt8})
    if (name == name_of(p)) return p;
  check(name == "integer", "unknown precision '{}', must be fp32, fp16, int8 or integer", name);
  return Precision::kInteger;
}

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

}  // namespace sextant::deploy
