// SPDX-License-Identifier: Apache-2.0
// A small network for the tests of quantization: a RepVGG stem, pooling, a deconv of a stride-2
// convolution, a concat, a grouped convolution, and heads.
#pragma once

#include <vector>

#include "deploy/graph/passes.h"
#include "deploy/graph/trace.h"
#include "layers/blocks.h"
#include "quant/ptq/ptq.h"
#include "support/support.h"

namespace sextant::test {

// stem - (pool, deconv of a stride-2 convolution) - concat - convolution
class QuantNet : public Module {
 public:
  QuantNet() {
    Rng rng(1);
    stem_ = register_module("stem", std::make_shared<RepVGGBlock>(3, 8, 2, rng));
    down_ =
        register_module("down", std::make_shared<ConvBNAct>(8, 16, 3, 2, Activation::kReLU, rng));
    up_ = register_module("up", std::make_shared<Transpose>(16, 8, rng));
    last_ =
        register_module("last", std::make_shared<ConvBNAct>(16, 8, 1, 1, Activation::kReLU, rng));
    train(false);
  }
  Variable forward(const Variable& x) const {
    const Variable a = stem_->forward(x);
    return last_->forward(concat({max_pool2d(a, {3, 1, 1}), up_->forward(down_->forward(a))}));
  }
  deploy::Graph graph() const {
    deploy::NamedVariables names;
    for (const ParameterRef& p : parameters()) names.emplace_back(p.name, p.variable);
    return deploy::fuse(
        deploy::trace_model([&](const Variable& x) { return forward(x); }, names, {1, 16, 16, 3}));
  }

 private:
  std::shared_ptr<RepVGGBlock> stem_;
  std::shared_ptr<ConvBNAct> down_, last_;
  std::shared_ptr<Transpose> up_;
};

// Random bytes [N,16,16,3].
inline Tensor random_images(int64_t n, uint64_t seed) {
  Tensor t({n, 16, 16, 3}, DType::kU8);
  Rng rng(seed);
  for (uint8_t& v : t.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  return t;
}

inline quant::ImageSource source_of(std::vector<Tensor> batches) {
  return
      [batches, i = size_t{0}]() mutable { return i < batches.size() ? batches[i++] : Tensor(); };
}

// A graph built node by node, one tensor for each node.
class GraphBuilder {
 public:
  GraphBuilder() {
    deploy::Node n;
    n.name = "images";
    g.input = add(n, Shape{1, 16, 16, 3});
  }
  // Random weights with rows of very different sizes, and a bias.
  int conv(int in, int64_t o, int64_t k, Activation act, int64_t groups = 1, int residual = -1,
           bool before = false) {
    deploy::Node n = made(deploy::ConvAttributes{.padding = k / 2,
                                                 .groups = groups,
                                                 .activation = act,
                                                 .residual = residual >= 0,
                                                 .residual_before_activation = before},
                          {in});
    if (residual >= 0) n.inputs.push_back(residual);
    Shape s = shape(in);
    weights(n, {o, k, k, s[3] / groups});
    s[3] = o;
    return add(n, s);
  }
  int deconv(int in, int64_t o, Activation act) {
    deploy::Node n = made(deploy::DeconvAttributes{act}, {in});
    weights(n, {o, 2, 2, shape(in)[3]});
    return add(n, {1, 2 * shape(in)[1], 2 * shape(in)[2], o});
  }
  int pool(int in) {
    return add(made(deploy::MaxPoolAttributes{.kernel = 3, .padding = 1}, {in}), shape(in));
  }
  int upsample(int in) {
    const Shape s = shape(in);
    return add(made(deploy::UpsampleAttributes{}, {in}), {1, 2 * s[1], 2 * s[2], s[3]});
  }
  int concat(const std::vector<int>& in) {
    Shape s = shape(in[0]);
    s[3] = 0;
    for (const int t : in) s[3] += shape(t)[3];
    return add(made(deploy::ConcatAttributes{}, in), s);
  }
  int sum(int a, int b) { return add(made(deploy::AddAttributes{}, {a, b}), shape(a)); }
  int slice(int in, int64_t begin, int64_t end) {
    Shape s = shape(in);
    s[3] = end - begin;
    return add(made(deploy::SliceAttributes{begin, end}, {in}), s);
  }
  int activation(int in, Activation act) {
    return add(made(deploy::ActivationAttributes{act}, {in}), shape(in));
  }
  deploy::Graph finish(int output) {
    g.output = output;
    deploy::validate(g);
    return g;
  }

  deploy::Graph g;

 private:
  const Shape& shape(int t) const { return g.tensors[static_cast<size_t>(t)].shape; }
  deploy::Node made(const deploy::Attributes& attributes, const std::vector<int>& inputs) const {
    deploy::Node n;
    n.attributes = attributes;
    n.name = std::string(name_of(n.kind())) + std::to_string(g.nodes.size());
    n.inputs = inputs;
    return n;
  }
  void weights(deploy::Node& n, Shape s) {
    n.weight = random_tensor(s, g.nodes.size() + 7, -0.3, 0.3);
    n.bias = random_tensor({s[0]}, g.nodes.size() + 99, -0.2, 0.2);
    Rng rng(g.nodes.size());
    const int64_t inner = n.weight.numel() / s[0];
    for (int64_t o = 0; o < s[0]; ++o) {
      const auto factor = static_cast<float>(std::exp2(rng.uniform(-3.0, 3.0)));
      for (int64_t k = 0; k < inner; ++k) n.weight.f32()[o * inner + k] *= factor;
    }
  }
  int add(deploy::Node n, const Shape& s) {
    n.output = static_cast<int>(g.tensors.size());
    g.tensors.push_back({.name = n.name, .shape = s});
    g.nodes.push_back(std::move(n));
    return g.nodes.back().output;
  }
};

}  // namespace sextant::test
