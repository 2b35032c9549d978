// SPDX-License-Identifier: Apache-2.0
// Deploy graphs written by hand, for tests that reason about single nodes.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "deploy/graph/graph.h"
#include "quant/ptq/ptq.h"
#include "support/support.h"

namespace sextant::test {

// Adds nodes one by one; each returns its tensor. Weights are drawn from the node's number.
class GraphMaker {
 public:
  explicit GraphMaker(int64_t size) : size_(size) {
    graph_.input = node("images", deploy::InputAttributes{}, {}, 3);
    graph_.tensors[0].shape = Shape{1, size, size, 3};
    graph_.class_names = {"a", "b", "c"};
    graph_.image_size = size;
  }
  struct Conv {
    int64_t kernel = 3, stride = 1;
    Activation activation = Activation::kReLU;
    int residual = -1;
  };
  int conv(const std::string& name, int in, int64_t channels, const Conv& c) {
    const int out = node(name,
                         deploy::ConvAttributes{.stride = c.stride,
                                                .padding = c.kernel / 2,
                                                .activation = c.activation,
                                                .residual = c.residual >= 0},
                         {in}, channels);
    deploy::Node& n = graph_.nodes.back();
    if (c.residual >= 0) n.inputs.push_back(c.residual);
    weights(n, {channels, c.kernel, c.kernel, this->channels(in)});
    return out;
  }
  int conv(const std::string& name, int in, int64_t channels) {
    return conv(name, in, channels, Conv{});
  }
  int deconv(const std::string& name, int in, int64_t channels) {
    const int out = node(name, deploy::DeconvAttributes{}, {in}, channels);
    weights(graph_.nodes.back(), {channels, 2, 2, this->channels(in)});
    return out;
  }
  int pool(const std::string& name, int in) {
    return node(name, deploy::MaxPoolAttributes{.kernel = 3, .padding = 1}, {in}, channels(in));
  }
  int concat(const std::string& name, int a, int b) {
    return node(name, deploy::ConcatAttributes{}, {a, b}, channels(a) + channels(b));
  }
  int add(const std::string& name, int a, int b) {
    return node(name, deploy::AddAttributes{}, {a, b}, channels(a));
  }
  int activation(const std::string& name, int in, Activation act) {
    return node(name, deploy::ActivationAttributes{act}, {in}, channels(in));
  }
  deploy::Graph decode(int cls, int reg, int64_t stride) {
    const deploy::DecodeAttributes attributes{.strides = {stride}, .num_classes = channels(cls)};
    graph_.output = node("decode", attributes, {cls, reg}, 0);
    const std::vector<Shape> shapes = deploy::infer_shapes(graph_, 1, size_, size_);
    for (size_t t = 0; t < shapes.size(); ++t) graph_.tensors[t].shape = shapes[t];
    deploy::validate(graph_);
    return graph_;
  }

 private:
  int64_t channels(int t) const { return channels_[static_cast<size_t>(t)]; }
  int node(const std::string& name, const deploy::Attributes& attributes, std::vector<int> inputs,
           int64_t channels) {
    deploy::Node n;
    n.name = name;
    n.attributes = attributes;
    n.inputs = std::move(inputs);
    n.output = static_cast<int>(graph_.tensors.size());
    graph_.nodes.push_back(n);
    deploy::TensorInfo info;
    info.name = name;
    graph_.tensors.push_back(info);
    channels_.push_back(channels);
    return n.output;
  }
  void weights(deploy::Node& n, const Shape& shape) {
    const uint64_t seed = graph_.nodes.size();
    const double fan = static_cast<double>(shape.numel()) / static_cast<double>(shape[0]);
    n.weight = random_tensor(shape, seed, -std::sqrt(5.0 / fan), std::sqrt(5.0 / fan));
    n.bias = random_tensor({shape[0]}, seed + 1000, -0.1, 0.2);
  }

  int64_t size_;
  deploy::Graph graph_;
  std::vector<int64_t> channels_;
};

// images - c1 - c2 - c3 - c4 - (cls, reg) - decode, at stride 2.
inline deploy::Graph chain_graph() {
  GraphMaker m(16);
  const int c1 = m.conv("c1", 0, 8, {.stride = 2});
  const int c4 = m.conv("c4", m.conv("c3", m.conv("c2", c1, 8), 8), 8);
  const int cls = m.conv("cls", c4, 3, {.kernel = 1, .activation = Activation::kIdentity});
  const int reg = m.conv("reg", c4, 4, {.kernel = 1, .activation = Activation::kIdentity});
  return m.decode(cls, reg, 2);
}

// Every kind of border: a residual, a pool and a deconv into a concat, two readers of it, an add,
// an activation of its own.
inline deploy::Graph mixed_graph() {
  GraphMaker m(16);
  const int stem = m.conv("stem", 0, 8, {.stride = 2});
  const int body = m.conv("body", stem, 8);
  const int joined = m.conv("joined", body, 8, {.residual = stem});
  const int pooled = m.pool("pooled", joined);
  const int down = m.conv("down", joined, 16, {.stride = 2});
  const int up = m.deconv("up", down, 8);
  const int wide = m.concat("wide", pooled, up);
  const int left = m.conv("left", wide, 8, {.kernel = 1, .activation = Activation::kSiLU});
  const int right = m.conv("right", wide, 8);
  const int sum = m.add("sum", left, right);
  const int last = m.conv("last", m.activation("act", sum, Activation::kLeakyReLU), 8);
  const int cls = m.conv("cls", last, 3, {.kernel = 1, .activation = Activation::kIdentity});
  const int reg = m.conv("reg", last, 4, {.kernel = 1, .activation = Activation::kIdentity});
  return m.decode(cls, reg, 2);
}

inline Tensor noise_images(int64_t n, uint64_t seed) {
  Tensor t({n, 16, 16, 3}, DType::kU8);
  Rng rng(seed);
  for (uint8_t& v : t.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  return t;
}

inline deploy::Graph calibrated(const deploy::Graph& graph) {
  bool given = false;
  return quant::quantize(graph,
                         [&] {
                           if (given) return Tensor();
                           given = true;
                           return noise_images(4, 1);
                         },
                         {.method = quant::Method::kMax, .images = 4});
}

inline int node_of(const deploy::Graph& graph, const std::string& name) {
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (graph.nodes[i].name == name) return static_cast<int>(i);
  fail("no node '{}'", name);
}

}  // namespace sextant::test
