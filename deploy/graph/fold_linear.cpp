// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "deploy/graph/passes.h"

namespace sextant::deploy {
namespace {

// A conv without activation or residual.
bool is_linear_conv(const Node& node) {
  return node.is<ConvAttributes>() && node.activation() == Activation::kIdentity &&
         !node.has_residual();
}

// One summand: scale * tensor + shift, per channel.
struct Term {
  int tensor = -1;
  std::vector<double> scale;  // empty: 1
  std::vector<double> shift;  // empty: 0
};

std::vector<Term> terms_of_norm(const Node& norm) {
  std::vector<Term> terms;
  const float eps = norm.as<BatchNormAttributes>().eps;
  for (size_t b = 0; b < norm.inputs.size(); ++b) {
    const float* gamma = norm.norm[4 * b].f32();
    const float* beta = norm.norm[4 * b + 1].f32();
    const float* mean = norm.norm[4 * b + 2].f32();
    const float* var = norm.norm[4 * b + 3].f32();
    Term t{norm.inputs[b], {}, {}};
    for (int64_t o = 0; o < norm.norm[0].numel(); ++o) {
      const double factor = gamma[o] / std::sqrt(static_cast<double>(var[o]) + eps);
      t.scale.push_back(factor);
      t.shift.push_back(beta[o] - mean[o] * factor);
    }
    terms.push_back(std::move(t));
  }
  return terms;
}

// The sum of terms as one convolution.
class LinearSum {
 public:
  LinearSum(const Graph& graph, const std::vector<int>& producers, std::vector<Term> terms)
      : graph_(graph), producers_(producers), terms_(std::move(terms)) {}

  // Whether all terms are convolutions of one tensor or that tensor.
  bool fits() {
    const Node* conv = producer(terms_[0].tensor);
    return (is_linear_conv(*conv) && try_source(conv->inputs[0])) || try_source(terms_[0].tensor);
  }
  // Whether the sum keeps the integers of weights that are quantized already: of one convolution
  // times a factor per channel.
  bool keeps_integers() const {
    const auto all = convolutions();
    if (std::ranges::all_of(all, [](const Node* c) { return c->weight_scale.empty(); }))
      return true;
    return terms_.size() == 1 && std::ranges::find(terms_[0].scale, 0.0) == terms_[0].scale.end();
  }
  // The convolutions among the terms.
  std::vector<const Node*> convolutions() const {
    std::vector<const Node*> found;
    for (const Node* conv : branches_)
      if (conv) found.push_back(conv);
    return found;
  }
  // The branch with the largest kernel; null if x is the only term.
  const Node* geometry() const { return geometry_; }

  // A convolution of x with `channels` outputs; name and output tensor are not set.
  Node build(int64_t channels) const {
    Node node;
    node.inputs = {source_};
    Shape shape{channels, 1, 1, 1};
    ConvAttributes attributes{.groups = channels};
    if (geometry_) {
      attributes = geometry_->as<ConvAttributes>();
      shape = geometry_->weight.shape();
      node.precision = geometry_->precision;
      node.weight_scale = geometry_->weight_scale;
      for (size_t o = 0; o < node.weight_scale.size() && !terms_[0].scale.empty(); ++o)
        node.weight_scale[o] *= static_cast<float>(std::abs(terms_[0].scale[o]));
    }
    node.attributes = attributes;
    std::vector<double> weight(static_cast<size_t>(shape.numel()), 0.0);
    std::vector<double> bias(static_cast<size_t>(channels), 0.0);
    for (size_t t = 0; t < terms_.size(); ++t) add_term(t, shape, attributes.groups, weight, bias);
    node.weight = Tensor(shape);
    node.bias = Tensor({channels});
    std::copy(weight.begin(), weight.end(), node.weight.f32());
    std::copy(bias.begin(), bias.end(), node.bias.f32());
    return node;
  }

 private:
  const Node* producer(int tensor) const {
    return &graph_.nodes[static_cast<size_t>(producers_[static_cast<size_t>(tensor)])];
  }

  bool try_source(int x) {
    source_ = x;
    branches_.assign(terms_.size(), nullptr);
    geometry_ = nullptr;
    bool identity = false;
    for (size_t t = 0; t < terms_.size(); ++t) {
      if (terms_[t].tensor == x) {
        identity = true;
        continue;
      }
      const Node* conv = producer(terms_[t].tensor);
      if (!is_linear_conv(*conv) || conv->inputs[0] != x) return false;
      branches_[t] = conv;
      if (!geometry_ || larger(*conv, *geometry_)) geometry_ = conv;
    }
    if (!geometry_) return true;
    for (const Node* conv : branches_)
      if (conv && !inside(*conv)) return false;
    const Shape& w = geometry_->weight.shape();
    const auto& g = geometry_->as<ConvAttributes>();
    return !identity || (g.stride == 1 && w[0] == w[3] * g.groups && w[1] % 2 == 1 &&
                         w[2] == w[1] && g.padding == w[1] / 2);
  }

  static bool larger(const Node& a, const Node& b) {
    if (a.weight.dim(1) != b.weight.dim(1)) return a.weight.dim(1) > b.weight.dim(1);
    return a.as<ConvAttributes>().groups < b.as<ConvAttributes>().groups;
  }

  // Whether the kernel fits inside the geometry's kernel.
  bool inside(const Node& conv) const {
    const Shape &w = conv.weight.shape(), &large = geometry_->weight.shape();
    const auto &a = conv.as<ConvAttributes>(), &g = geometry_->as<ConvAttributes>();
    const int64_t border = g.padding - a.padding;
    return a.stride == g.stride && a.groups % g.groups == 0 && border >= 0 &&
           large[1] - w[1] == 2 * border && large[2] - w[2] == 2 * border;
  }

  void add_term(size_t t, const Shape& shape, int64_t groups, std::vector<double>& weight,
                std::vector<double>& bias) const {
    const Node* conv = branches_[t];
    const Term& term = terms_[t];
    const int64_t per_channel = shape[1] * shape[2] * shape[3];
    for (int64_t o = 0; o < shape[0]; ++o) {
      const size_t c = static_cast<size_t>(o);
      const double factor = term.scale.empty() ? 1.0 : term.scale[c];
      const double before = conv && conv->bias.defined() ? conv->bias.f32()[o] : 0.0;
      bias[c] += (term.shift.empty() ? 0.0 : term.shift[c]) + before * factor;
      double* row = weight.data() + o * per_channel;
      // the first input channel of o's group
      const int64_t begin = o / (shape[0] / groups) * shape[3];
      if (!conv) {
        row[(shape[1] / 2 * shape[2] + shape[2] / 2) * shape[3] + o - begin] += factor;
        continue;
      }
      const Shape& w = conv->weight.shape();
      const int64_t border = (shape[1] - w[1]) / 2;
      const int64_t shift = o / (w[0] / conv->as<ConvAttributes>().groups) * w[3] - begin;
      const float* from = conv->weight.f32() + o * w[1] * w[2] * w[3];
      for (int64_t a = 0; a < w[1]; ++a)
        for (int64_t b = 0; b < w[2]; ++b)
          for (int64_t i = 0; i < w[3]; ++i)
            row[((a + border) * shape[2] + b + border) * shape[3] + shift + i] += *from++ * factor;
    }
  }

  const Graph& graph_;
  const std::vector<int>& producers_;
  std::vector<Term> terms_;
  int source_ = -1;
  std::vector<const Node*> branches_;  // null: x itself
  const Node* geometry_ = nullptr;
};

Node fold_norm(const Graph& g, const std::vector<int>& producers, const Node& norm) {
  LinearSum sum(g, producers, terms_of_norm(norm));
  check(sum.fits() && sum.keeps_integers(),
        "deploy: node '{}': its branches are not convolutions of one tensor", norm.name);
  Node node = sum.build(norm.norm[0].numel());
  if (!sum.geometry()) node.precision = norm.precision;
  node.name = !sum.geometry()          ? norm.name
              : norm.inputs.size() > 1 ? norm.name + ".rbr_reparam"
                                       : sum.geometry()->name;
  node.as<ConvAttributes>().activation = norm.activation();
  return node;
}

// A sum is worth folding only if every convolution in it disappears.
bool absorbs(const LinearSum& sum, const std::vector<std::vector<int>>& consumers) {
  const auto all = sum.convolutions();
  return !all.empty() && sum.keeps_integers() &&
         std::all_of(all.begin(), all.end(), [&](const Node* conv) {
           return consumers[static_cast<size_t>(conv->output)].size() == 1;
         });
}

// The node that replaces the scale and the sum; one without an output if they stay.
Node fold_channel_scale(const Graph& g, const std::vector<int>& producers,
                        const std::vector<std::vector<int>>& consumers, const Node& scale) {
  Term term{scale.inputs[0], {}, {}};
  const int64_t channels = scale.weight.dim(0);
  term.scale.assign(scale.weight.f32(), scale.weight.f32() + channels);
  if (scale.bias.defined()) term.shift.assign(scale.bias.f32(), scale.bias.f32() + channels);
  LinearSum sum(g, producers, {term});
  if (!sum.fits() || !absorbs(sum, consumers)) return {};
  Node node = sum.build(channels);
  node.name = sum.geometry()->name;
  node.output = scale.output;
  return node;
}

Node fold_add(const Graph& g, const std::vector<int>& producers,
              const std::vector<std::vector<int>>& consumers, const Node& add) {
  std::vector<Term> terms{{add.inputs[0], {}, {}}, {add.inputs[1], {}, {}}};
  const int64_t channels = g.tensors[static_cast<size_t>(add.output)].shape[-1];
  terms[1].scale.assign(static_cast<size_t>(channels), add.as<AddAttributes>().residual_scale);
  LinearSum sum(g, producers, terms);
  if (!sum.fits() || !absorbs(sum, consumers)) return {};
  Node node = sum.build(channels);
  std::string path = sum.geometry()->name;
  const auto all = sum.convolutions();
  for (const Node* conv : all) path = common_path(path, conv->name);
  node.name = all.size() > 1 && !path.empty() ? path + ".rbr_reparam" : sum.geometry()->name;
  node.output = add.output;
  return node;
}

}  // namespace

bool is_channel_scale(const Node& node) {
  if (!is_linear_conv(node)) return false;
  const auto& a = node.as<ConvAttributes>();
  const Shape& w = node.weight.shape();
  return w[1] == 1 && w[2] == 1 && w[3] == 1 && a.groups == w[0] && a.stride == 1 && a.padding == 0;
}

Graph fold_linear(const Graph& graph) {
  Graph g = graph;
  const std::vector<int> producers = g.producers();
  const auto consumers = g.consumers();
  for (Node& node : g.nodes) {
    // earlier nodes are already folded, so a sum of folded blocks folds as well
    Node folded;
    if (node.is<BatchNormAttributes>()) {
      folded = fold_norm(g, producers, node);
      folded.output = node.output;
    } else if (node.is<AddAttributes>()) {
      folded = fold_add(g, producers, consumers, node);
    } else if (is_channel_scale(node)) {
      folded = fold_channel_scale(g, producers, consumers, node);
    }
    if (folded.output < 0) continue;
    g.tensors[static_cast<size_t>(folded.output)].name = folded.name;
    node = std::move(folded);
  }
  return remove_dead(g);
}

}  // namespace sextant::deploy
