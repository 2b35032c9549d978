// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/conv_layers.h"

#include <algorithm>

namespace sextant::deploy {
namespace {

ConvLayer layer_of(const Node& node, const Shape& x) {
  const Shape& w = node.weight.shape();
  const ConvAttributes a = conv_attributes(node);
  ConvLayer layer;
  layer.name = node.name;
  layer.epilogue = epilogue_of(node);
  layer.epilogue.residual_scale = 1.0f;
  kernels::ConvShape& s = layer.shape;
  s.n = x[0];
  s.h = x[1];
  s.w = x[2];
  s.ic = x[3];
  s.oc = w[0];
  if (node.is<DeconvAttributes>()) {
    s.oc *= 4;
  } else {
    s.kh = w[1];
    s.kw = w[2];
  }
  s.stride = a.stride;
  s.pad = a.padding;
  s.groups = a.groups;
  layer.residual = a.residual;
  return layer;
}

bool alike(const ConvLayer& a, const ConvLayer& b) {
  return a.shape == b.shape && a.epilogue == b.epilogue && a.residual == b.residual;
}

}  // namespace

ConvAttributes conv_attributes(const Node& node) {
  if (node.is<DeconvAttributes>()) return {.activation = node.activation()};
  return node.as<ConvAttributes>();
}

kernels::Epilogue epilogue_of(const Node& node) {
  const ConvAttributes a = conv_attributes(node);
  return {.activation = a.activation,
          .residual_scale = a.residual_scale,
          .residual_before_activation = a.residual_before_activation};
}

ConvForm::ConvForm(const Node& node)
    : attributes(conv_attributes(node)), scattered(node.is<DeconvAttributes>()) {
  weight = scattered ? deconv_as_pointwise(node.weight) : node.weight;
  bias = scattered ? deconv_channels(node.bias) : node.bias;
  gain = scattered ? deconv_channels(node.gain) : node.gain;
  for (int tap = 0; tap < (scattered ? 4 : 1); ++tap)
    weight_scale.insert(weight_scale.end(), node.weight_scale.begin(), node.weight_scale.end());
}

std::vector<ConvLayer> conv_layers(const Graph& graph, int64_t batch, int64_t height,
                                   int64_t width) {
  const std::vector<Shape> shapes = infer_shapes(graph, batch, height, width);
  std::vector<ConvLayer> layers;
  for (const Node& node : graph.nodes) {
    if (!node.has_weight()) continue;
    const ConvLayer layer = layer_of(node, shapes[static_cast<size_t>(node.inputs[0])]);
    const auto same = std::ranges::find_if(layers, [&](const auto& l) { return alike(l, layer); });
    if (same == layers.end())
      layers.push_back(layer);
    else
      ++same->count;
  }
  return layers;
}

Tensor deconv_as_pointwise(const Tensor& weight) {
  const int64_t o = weight.dim(0);
  const int64_t i = weight.dim(3);
  Tensor result(Shape{4 * o, 1, 1, i});
  for (int64_t oc = 0; oc < o; ++oc)
    for (int64_t tap = 0; tap < 4; ++tap)
      std::copy_n(weight.f32() + (oc * 4 + tap) * i, i, result.f32() + (tap * o + oc) * i);
  return result;
}

Tensor deconv_channels(const Tensor& values) {
  if (!values.defined()) return {};
  Tensor result(Shape{4 * values.numel()});
  for (int64_t tap = 0; tap < 4; ++tap)
    std::copy_n(values.f32(), values.numel(), result.f32() + tap * values.numel());
  return result;
}

}  // namespace sextant::deploy
