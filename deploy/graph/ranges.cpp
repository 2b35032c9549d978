#include "deploy/graph/ranges.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sextant::deploy {
namespace {

bool passes_range(NodeKind kind) {
  return kind == NodeKind::kMaxPool || kind == NodeKind::kUpsample || kind == NodeKind::kSlice ||
         kind == NodeKind::kConcat || kind == NodeKind::kAdd;
}

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

// The largest |w| of each output channel.
std::vector<float> channel_amax(const Tensor& weight) {
  const int64_t o = weight.dim(0);
  const int64_t n = weight.numel() / o;
  std::vector<float> amax(static_cast<size_t>(o), 0.0f);
  for (int64_t i = 0; i < o; ++i)
    for (int64_t j = 0; j < n; ++j)
      amax[static_cast<size_t>(i)] =
          std::max(amax[static_cast<size_t>(i)], std::abs(weight.f32()[i * n + j]));
  return amax;
}

// Which tensors cannot hold a negative number.
std::vector<bool> positive_tensors(const Graph& graph) {
  std::vector<bool> positive(graph.tensors.size(), false);
  const auto is = [&](int t) { return positive[static_cast<size_t>(t)]; };
  for (const Node& node : graph.nodes) {
    const Attributes& a = node.attributes;
    bool yes = false;
    if (passes_range(node.kind)) {
      yes = std::all_of(node.inputs.begin(), node.inputs.end(), is) && a.residual_scale >= 0;
    } else if (node.kind == NodeKind::kInput || node.kind == NodeKind::kSoftmax) {
      yes = true;
    } else if (node.kind == NodeKind::kGlobalAvgPool) {
      yes = is(node.inputs[0]);
    } else if (node.kind != NodeKind::kDecode) {
      yes = kernels::traits_of(a.activation).never_negative;
      if (a.residual && !a.residual_before_activation)
        yes = yes && is(node.inputs[1]) && a.residual_scale >= 0;
    }
    positive[static_cast<size_t>(node.output)] = yes;
  }
  return positive;
}

}  // namespace

void unify_ranges(Graph& graph) {
  Union sets(graph.tensors.size());
  for (const Node& node : graph.nodes) {
    if (passes_range(node.kind))
      for (const int t : node.inputs) sets.join(t, node.output);
    else if (node.attributes.residual)
      sets.join(node.inputs[1], node.output);
  }
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

void separate_ranges(Graph& graph) {
  const std::vector<bool> positive = positive_tensors(graph);
  for (size_t t = 0; t < graph.tensors.size(); ++t) {
    graph.tensors[t].group = static_cast<int>(t);
    graph.tensors[t].is_unsigned = positive[t];
  }
}

std::vector<bool> groups_to_quantize(const Graph& graph) {
  std::vector<bool> wanted(graph.tensors.size(), true);
  for (const Node& node : graph.nodes) {
    if (node.kind != NodeKind::kDecode && node.kind != NodeKind::kSoftmax) continue;
    wanted[static_cast<size_t>(graph.tensors[static_cast<size_t>(node.output)].group)] = false;
    for (const int t : node.inputs)
      wanted[static_cast<size_t>(graph.tensors[static_cast<size_t>(t)].group)] = false;
  }
  return wanted;
}

void assign_ranges(Graph& graph, const std::vector<float>& group_amax) {
  for (const TensorInfo& info : graph.tensors)
    check(info.group >= 0, "deploy: tensor '{}' has no range group; unify_ranges() first",
          info.name);
  const std::vector<bool> wanted = groups_to_quantize(graph);
  const int image = graph.tensors[static_cast<size_t>(graph.input)].group;
  for (TensorInfo& info : graph.tensors) {
    const size_t g = static_cast<size_t>(info.group);
    info.amax = 0.0f;
    if (!wanted[g]) continue;
    check(g < group_amax.size() && std::isfinite(group_amax[g]),
          "deploy: tensor '{}': no finite range", info.name);
    info.amax = info.group == image ? 1.0f : std::max(group_amax[g], 2 * kTinyAmax);
  }
  for (Node& node : graph.nodes) {
    if (!node.has_weight()) continue;
    node.weight_scale = channel_amax(node.weight);
    for (float& s : node.weight_scale) s = s <= kTinyAmax ? 1.0f : s / 127.0f;
  }
}

int64_t count_requantizations(const Graph& graph) {
  int64_t count = 0;
  const auto differ = [&](int a, int b) {
    const TensorInfo& x = graph.tensors[static_cast<size_t>(a)];
    const TensorInfo& y = graph.tensors[static_cast<size_t>(b)];
    return x.amax != y.amax || x.is_unsigned != y.is_unsigned;
  };
  for (const Node& node : graph.nodes) {
    if (passes_range(node.kind))
      for (const int t : node.inputs) count += differ(t, node.output);
    if (node.kind == NodeKind::kConv && node.attributes.residual)
      count += differ(node.inputs[1], node.output);
  }
  return count;
}

std::vector<int8_t> quantize_weight(const Tensor& weight, const std::vector<float>& scale) {
  const int64_t o = weight.dim(0);
  const int64_t n = weight.numel() / o;
  std::vector<int8_t> q(static_cast<size_t>(weight.numel()));
  for (int64_t i = 0; i < o; ++i) {
    const float inverse = 1.0f / scale[static_cast<size_t>(i)];
    for (int64_t j = 0; j < n; ++j) {
      const float r = std::nearbyint(weight.f32()[i * n + j] * inverse);
      q[static_cast<size_t>(i * n + j)] =
          static_cast<int8_t>(std::min(127.0f, std::max(-127.0f, r)));
    }
  }
  return q;
}

}  // namespace sextant::deploy
