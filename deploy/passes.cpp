#include "deploy/passes.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace sextant::deploy {
namespace {

// A conv that only multiplies and adds: what batch-norm can be folded into.
bool is_linear_conv(const Node& node) {
  return node.kind == NodeKind::kConv && node.attributes.activation == Activation::kIdentity &&
         !node.attributes.residual;
}

// Folds one rep_bn_act into a convolution of `x`.
class Folder {
 public:
  Folder(const Graph& graph, const std::vector<int>& producers, const Node& norm)
      : graph_(graph), producers_(producers), norm_(norm) {}

  Node fold() {
    const int first = norm_.inputs[0];
    const Node* conv = producer(first);
    if (!(is_linear_conv(*conv) && try_source(conv->inputs[0])) && !try_source(first))
      fail("deploy: node '{}': its branches are not convolutions of one tensor", norm_.name);
    return build();
  }

 private:
  const Node* producer(int tensor) const {
    return &graph_.nodes[static_cast<size_t>(producers_[static_cast<size_t>(tensor)])];
  }

  // Whether every branch is x or a convolution of x, all of one geometry; fills branches_.
  bool try_source(int x) {
    source_ = x;
    branches_.assign(norm_.inputs.size(), nullptr);
    geometry_ = nullptr;
    bool identity = false;
    for (size_t b = 0; b < norm_.inputs.size(); ++b) {
      if (norm_.inputs[b] == x) {
        identity = true;
        continue;
      }
      const Node* conv = producer(norm_.inputs[b]);
      if (!is_linear_conv(*conv) || conv->inputs[0] != x) return false;
      branches_[b] = conv;
      if (!geometry_ || conv->weight.dim(1) > geometry_->weight.dim(1)) geometry_ = conv;
    }
    if (!geometry_) return true;
    const int64_t kernel = geometry_->weight.dim(1);
    const Attributes& g = geometry_->attributes;
    // what sits at the centre of an odd kernel with "same" padding
    const bool centred = kernel % 2 == 1 && g.padding == kernel / 2;
    if (identity && (g.stride != 1 || !centred)) return false;
    for (const Node* conv : branches_) {
      if (!conv) continue;
      const Shape& w = conv->weight.shape();
      if (conv->attributes.stride != g.stride || conv->attributes.groups != g.groups) return false;
      const bool same = w == geometry_->weight.shape() && conv->attributes.padding == g.padding;
      const bool point = w[1] == 1 && w[2] == 1 && conv->attributes.padding == 0 && centred;
      if (!same && !point) return false;
    }
    return true;
  }

  Node build() const {
    const int64_t channels = norm_.norm[0].numel();
    Node node;
    node.kind = NodeKind::kConv;
    node.inputs = {source_};
    node.output = norm_.output;
    Shape shape{channels, 1, 1, 1};
    if (geometry_) {
      node.attributes = geometry_->attributes;
      shape = geometry_->weight.shape();
      node.name = norm_.inputs.size() > 1 ? norm_.name + ".rbr_reparam" : geometry_->name;
    } else {
      node.attributes.groups = channels;
      node.name = norm_.name;
    }
    node.attributes.activation = norm_.attributes.activation;
    const int64_t per_channel = shape[1] * shape[2] * shape[3];
    const int64_t centre = (shape[1] / 2 * shape[2] + shape[2] / 2) * shape[3];
    std::vector<double> weight(static_cast<size_t>(shape.numel()), 0.0);
    std::vector<double> bias(static_cast<size_t>(channels), 0.0);
    for (size_t b = 0; b < branches_.size(); ++b) {
      const float* gamma = norm_.norm[4 * b].f32();
      const float* beta = norm_.norm[4 * b + 1].f32();
      const float* mean = norm_.norm[4 * b + 2].f32();
      const float* var = norm_.norm[4 * b + 3].f32();
      const Node* conv = branches_[b];
      for (int64_t o = 0; o < channels; ++o) {
        const double factor =
            gamma[o] / std::sqrt(static_cast<double>(var[o]) + norm_.attributes.eps);
        const double before = conv && conv->bias.defined() ? conv->bias.f32()[o] : 0.0;
        bias[static_cast<size_t>(o)] += beta[o] + (before - mean[o]) * factor;
        double* row = weight.data() + o * per_channel;
        if (!conv) {
          row[centre + o % shape[3]] += factor;
          continue;
        }
        const bool point = conv->weight.dim(1) != shape[1];
        const int64_t n = point ? shape[3] : per_channel;
        const float* w = conv->weight.f32() + o * n;
        for (int64_t i = 0; i < n; ++i) row[(point ? centre : 0) + i] += w[i] * factor;
      }
    }
    node.weight = Tensor(shape);
    node.bias = Tensor({channels});
    std::copy(weight.begin(), weight.end(), node.weight.f32());
    std::copy(bias.begin(), bias.end(), node.bias.f32());
    return node;
  }

  const Graph& graph_;
  const std::vector<int>& producers_;
  const Node& norm_;
  int source_ = -1;
  std::vector<const Node*> branches_;  // null: identity
  const Node* geometry_ = nullptr;     // the branch with the largest kernel; null: identity only
};

// Puts `merged` in the place of node `later`, whose tensor it makes from now on, and drops node
// `earlier`, which only `later` read.
Graph merge(Graph g, size_t earlier, size_t later, Node merged) {
  merged.output = g.nodes[later].output;
  g.tensors[static_cast<size_t>(merged.output)].name = merged.name;
  g.nodes[later] = std::move(merged);
  g.nodes.erase(g.nodes.begin() + static_cast<std::ptrdiff_t>(earlier));
  return remove_dead(g);
}

// One fold each; false when there is nothing left to fold.
bool fold_one_activation(Graph& g) {
  const std::vector<int> producers = g.producers();
  const auto consumers = g.consumers();
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    if (g.nodes[i].kind != NodeKind::kActivation) continue;
    const size_t before = static_cast<size_t>(g.nodes[i].inputs[0]);
    const size_t made = static_cast<size_t>(producers[before]);
    Node conv = g.nodes[made];
    const Attributes& a = conv.attributes;
    // act(conv) + r is not linear in the convolution any more
    if (!conv.has_weight() || consumers[before].size() != 1 ||
        a.activation != Activation::kIdentity)
      continue;
    conv.attributes.activation = g.nodes[i].attributes.activation;
    conv.attributes.residual_before_activation = conv.attributes.residual;
    g = merge(std::move(g), made, i, std::move(conv));
    return true;
  }
  return false;
}

bool fold_one_residual(Graph& g) {
  const std::vector<int> producers = g.producers();
  const auto consumers = g.consumers();
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    if (g.nodes[i].kind != NodeKind::kAdd) continue;
    for (size_t side = 2; side-- > 0;) {
      const size_t before = static_cast<size_t>(g.nodes[i].inputs[side]);
      const size_t made = static_cast<size_t>(producers[before]);
      Node conv = g.nodes[made];
      if (conv.kind != NodeKind::kConv || conv.attributes.residual || consumers[before].size() != 1)
        continue;
      conv.attributes.residual = true;
      conv.inputs.push_back(g.nodes[i].inputs[1 - side]);
      g = merge(std::move(g), made, i, std::move(conv));
      return true;
    }
  }
  return false;
}

// A name that occurs again gets a number.
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
    keep[i] = wanted[static_cast<size_t>(node.output)] || node.kind == NodeKind::kInput;
    if (keep[i])
      for (const int t : node.inputs) wanted[static_cast<size_t>(t)] = true;
  }
  Graph result;
  result.class_names = graph.class_names;
  result.image_size = graph.image_size;
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

Graph fold_batch_norm(const Graph& graph) {
  Graph g = graph;
  const std::vector<int> producers = g.producers();
  for (Node& node : g.nodes) {
    if (node.kind != NodeKind::kBatchNorm) continue;
    // earlier nodes are folded already, so a batch-norm after a folded block folds into it
    Node folded = Folder(g, producers, node).fold();
    g.tensors[static_cast<size_t>(folded.output)].name = folded.name;
    node = std::move(folded);
  }
  return remove_dead(g);
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

Graph fuse(const Graph& graph) {
  // conv -> activation -> add and conv -> add -> activation both come out as one node
  Graph g = fold_activation(fold_residual(fold_activation(fold_batch_norm(graph))));
  for (Node& node : g.nodes) {
    if (node.weight.defined()) node.weight = node.weight.clone();
    if (node.bias.defined()) node.bias = node.bias.clone();
  }
  validate(g);
  return g;
}

}  // namespace sextant::deploy
