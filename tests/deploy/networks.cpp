// SPDX-License-Identifier: Apache-2.0
#include "deploy/networks.h"

#include <cmath>

#include "deploy/engine/engine.h"

namespace sextant::test {

void randomize(const Module& module, uint64_t seed) {
  uint64_t stream = 0;
  for (const StateRef& entry : module.state()) {
    if (entry.tensor.dtype() != DType::kF32) continue;
    Rng rng(seed, stream++);
    const Tensor& t = entry.tensor;
    const bool weight = t.shape().rank() == 4;
    const double fan = weight ? static_cast<double>(t.numel()) / static_cast<double>(t.dim(0)) : 1;
    for (float& v : t.span<float>()) {
      const double u = rng.uniform(-1, 1);
      if (weight)
        v = static_cast<float>(u * 1.4 * std::sqrt(3.0 / fan));
      else if (entry.name.ends_with("running_var"))
        v = static_cast<float>(1 + 0.5 * std::abs(u));
      else if (entry.name.ends_with("weight"))
        v = static_cast<float>(1 + 0.2 * u);
      else
        v = static_cast<float>(0.2 * u);
    }
  }
}

deploy::NamedVariables named(const Module& module) {
  deploy::NamedVariables result;
  for (const ParameterRef& p : module.parameters()) result.emplace_back(p.name, p.variable);
  return result;
}

MixedNet::MixedNet(Activation act, uint64_t seed, bool objectness) : act_(act) {
  Rng rng(seed);
  const auto conv = [&](const std::string& name, int64_t in, int64_t out, int64_t kernel,
                        int64_t stride, Activation a) {
    return register_module(name, std::make_shared<ConvBNAct>(in, out, kernel, stride, a, rng));
  };
  stem_ = register_module("stem", std::make_shared<RepVGGBlock>(3, 16, 2, rng));
  block_ = register_module("block", std::make_shared<RepVGGBlock>(16, 16, 1, rng));
  c1_ = conv("c1", 16, 16, 3, 1, act);
  c2_ = conv("c2", 16, 16, 1, 1, Activation::kIdentity);
  c3_ = conv("c3", 16, 16, 3, 1, act);
  depthwise_ = register_module(
      "depthwise", std::make_shared<ConvModule>(16, 16, 3, 1, Activation::kReLU, rng, 16));
  linear_ = register_module("linear", std::make_shared<Conv2d>(16, 16, 1, ConvParams{}, true, rng));
  sppf_ = register_module("sppf", std::make_shared<SimSPPF>(16, 24, act, rng));
  down_ = conv("down", 24, 32, 3, 2, act);
  up_ = register_module("up", std::make_shared<Transpose>(32, 16, rng));
  mix_ = conv("mix", 72, 16, 1, 1, act);
  part_ = conv("part", 20, 24, 3, 1, Activation::kReLU);
  HeadConfig head;
  head.in_channels = {24, 32};
  head.num_classes = 3;
  head.strides = {2, 4};
  head.objectness = objectness;
  head_ = register_module("detect", std::make_shared<EffiDeHead>(head, rng));
  randomize(*this, seed);
  train(false);
}

Variable MixedNet::predict(const Variable& x) const {
  const Variable a = block_->forward(stem_->forward(x));
  const auto factor = [](float f) { return Variable(Tensor::full(Shape{1}, f)); };
  const Variable after = add(c1_->forward(a), a, factor(0.75f));          // act(conv) + 0.75 r
  const Variable before = activation(add(a, c2_->forward(after)), act_);  // act(r + conv)
  const Variable d = depthwise_->forward(c3_->forward(before));
  const Variable shared = linear_->forward(d);  // read twice: neither add nor act can be folded
  const Variable loose = add(shared, activation(shared, Activation::kLeakyReLU), factor(0.6f));
  const Variable s = sppf_->forward(loose);
  const Variable low = down_->forward(s);
  const Variable wide = concat({up_->forward(low), slice_channels(s, 0, 8),
                                upsample_nearest(low, 2), max_pool2d(d, {3, 1, 1})});
  const Variable m = mix_->forward(wide);
  const Variable high = part_->forward(concat({slice_channels(m, 4, 8), d}));
  return head_->decode(head_->forward({high, low}));
}

Tensor random_images(const Shape& shape, uint64_t seed) {
  Tensor t(shape, DType::kU8);
  Rng rng(seed);
  const double fx = rng.uniform(2, 9), fy = rng.uniform(2, 9);
  uint8_t* p = t.data<uint8_t>();
  for (int64_t n = 0; n < shape[0]; ++n)
    for (int64_t h = 0; h < shape[1]; ++h)
      for (int64_t w = 0; w < shape[2]; ++w)
        for (int64_t c = 0; c < 3; ++c) {
          const double smooth = std::sin(static_cast<double>(w) / fx + static_cast<double>(c + n)) *
                                std::cos(static_cast<double>(h) / fy);
          *p++ = static_cast<uint8_t>(128 + 90 * smooth + 37 * rng.uniform(-1, 1));
        }
  return t;
}

Tensor as_float_images(const Tensor& images) {
  Tensor x(images.shape());
  for (int64_t i = 0; i < x.numel(); ++i)
    x.f32()[i] = static_cast<float>(images.data<uint8_t>()[i]) / 255.0f;
  return x;
}

deploy::Graph with_ranges(const deploy::Graph& fused, const Tensor& images, float shrink) {
  deploy::Graph graph = fused;
  deploy::unify_ranges(graph);
  std::vector<float> amax(graph.tensors.size(), 0.0f);
  deploy::Engine engine(graph, {images.dim(0), images.dim(1), images.dim(2)});
  engine.run(images, [&](const deploy::TensorView& v) {
    float& m = amax[static_cast<size_t>(v.info->group)];
    const Tensor values = v.values();
    for (const float x : values.span<float>()) m = std::max(m, std::abs(x) * shrink);
  });
  deploy::assign_ranges(graph, amax);
  deploy::set_weight_scales(graph);
  return graph;
}

deploy::Graph with_gains(const deploy::Graph& fused, uint64_t seed) {
  deploy::Graph graph = fused;
  for (deploy::Node& node : graph.nodes)
    if (node.has_weight() && !kernels::traits_of(node.activation()).homogeneous)
      node.gain = random_tensor({node.weight.dim(0)}, ++seed, 0.25, 4.0);
  return graph;
}

}  // namespace sextant::test
