// SPDX-License-Identifier: Apache-2.0
#include "quant/ptq/channel_sets.h"

#include <numeric>

#include "deploy/graph/node_rules.h"

namespace sextant::quant {
namespace {

using deploy::Graph;
using deploy::Node;

// Union-find over all channels of all tensors.
class Finder {
 public:
  Finder(const Graph& graph, bool gains) : graph_(graph), gains_(gains) {
    int64_t total = 0;
    for (const deploy::TensorInfo& info : graph.tensors) {
      first_.push_back(total);
      total += info.shape.rank() == 4 ? info.shape[3] : 0;
    }
    parent_.resize(static_cast<size_t>(total));
    std::iota(parent_.begin(), parent_.end(), 0);
    fixed_.assign(parent_.size(), false);
  }

  ChannelSets find() {
    for (const Node& node : graph_.nodes) join(node);
    fix(graph_.output);
    std::vector<bool> root_fixed(parent_.size(), false);
    for (size_t c = 0; c < fixed_.size(); ++c)
      if (fixed_[c]) root_fixed[root(c)] = true;

    std::vector<ChannelSet> all(parent_.size());
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      const Node& node = graph_.nodes[n];
      if (!node.has_weight()) continue;
      for (int64_t o = 0; o < channels(node.output); ++o)
        all[root(at(node.output, o))].makers.push_back({static_cast<int>(n), o});
      for (int64_t i = 0; i < channels(node.inputs[0]); ++i)
        all[root(at(node.inputs[0], i))].readers.push_back({static_cast<int>(n), i});
    }
    ChannelSets result;
    std::vector<int> number(parent_.size(), -1);
    result.of_tensor.resize(graph_.tensors.size());
    for (size_t t = 0; t < graph_.tensors.size(); ++t) {
      for (int64_t c = 0; c < channels(static_cast<int>(t)); ++c) {
        const size_t r = root(at(static_cast<int>(t), c));
        const bool scalable = !root_fixed[r] && !all[r].makers.empty() && !all[r].readers.empty();
        if (scalable && number[r] < 0) {
          number[r] = static_cast<int>(result.sets.size());
          result.sets.push_back(std::move(all[r]));
          all[r] = result.sets.back();
        }
        result.of_tensor[t].push_back(number[r]);
      }
    }
    return result;
  }

 private:
  int64_t channels(int t) const {
    const Shape& s = graph_.tensors[static_cast<size_t>(t)].shape;
    return s.rank() == 4 ? s[3] : 0;
  }
  size_t at(int t, int64_t c) const {
    return static_cast<size_t>(first_[static_cast<size_t>(t)] + c);
  }
  size_t root(size_t c) {
    while (parent_[c] != c) c = parent_[c] = parent_[parent_[c]];
    return c;
  }
  void fix(int t) {
    for (int64_t c = 0; c < channels(t); ++c) fixed_[at(t, c)] = true;
  }
  // Declares `count` channels of a, from `begin` on, to be those of b from `other` on.
  void join(int a, int64_t begin, int b, int64_t other, int64_t count) {
    for (int64_t c = 0; c < count; ++c) parent_[root(at(a, begin + c))] = root(at(b, other + c));
  }

  void join(const Node& node) {
    const bool commutes = kernels::traits_of(node.activation()).homogeneous;
    if (!commutes && !(gains_ && node.has_weight())) fix(node.output);
    if (node.has_residual()) {
      if (!commutes && node.as<deploy::ConvAttributes>().residual_before_activation)
        fix(node.inputs[1]);
      else
        join(node.inputs[1], 0, node.output, 0, channels(node.output));
    }
    if (node.has_weight()) return;
    const auto links = deploy::rules_of(node).channels;
    if (!links) {  // the image, the decoder, nodes that are not fused
      for (const int t : node.inputs) fix(t);
      return fix(node.output);
    }
    std::vector<int64_t> counts;
    for (const int t : node.inputs) counts.push_back(channels(t));
    std::vector<bool> linked(counts.size(), false);
    for (const deploy::ChannelLink& link : links(node, counts)) {
      join(node.inputs[link.input], link.begin, node.output, link.output_begin, link.count);
      linked[link.input] = true;
    }
    for (size_t i = 0; i < counts.size(); ++i)
      if (!linked[i]) fix(node.inputs[i]);
  }

  const Graph& graph_;
  bool gains_;
  std::vector<int64_t> first_;
  std::vector<size_t> parent_;
  std::vector<bool> fixed_;
};

}  // namespace

ChannelSets find_channel_sets(const Graph& graph, bool gains) {
  return Finder(graph, gains).find();
}

}  // namespace sextant::quant
