// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/weights.h"

#include <cmath>

#include "deploy/graph/node_rules.h"
#include "deploy/graph/ranges.h"

namespace sextant::deploy {
namespace {

constexpr double kMostBias = 1 << 30;

Tensor to_file(const Node& node, const Tensor& weight) {
  return to_file_layout(weight, rules_of(node).weight.value());
}

}  // namespace

Tensor onnx_weight(const Node& node) { return to_file(node, node.weight); }

Tensor onnx_weight_levels(const Node& node) {
  const std::vector<int8_t> q = quantize_weight(node.weight, node.weight_scale);
  const size_t inner = q.size() / node.weight_scale.size();
  Tensor levels(node.weight.shape());
  for (size_t i = 0; i < q.size(); ++i)
    levels.f32()[i] = static_cast<float>(q[i]) * node.weight_scale[i / inner];
  return to_file(node, levels);
}

std::vector<int64_t> onnx_weight_dims(const Node& node) {
  const Shape& w = node.weight.shape();
  if (node.is<DeconvAttributes>()) return {w[3], w[0], w[1], w[2]};
  return {w[0], w[3], w[1], w[2]};
}

IntegerWeight integer_weight(const Node& node, float input_scale) {
  IntegerWeight r;
  r.scale = node.weight_scale;
  for (size_t o = 0; o < r.scale.size(); ++o) {
    const double bias = node.bias.defined() ? node.bias.f32()[o] : 0.0;
    const double least = std::abs(bias) / (kMostBias * input_scale);
    if (r.scale[o] < least) r.scale[o] = static_cast<float>(least);
    if (!node.bias.defined()) continue;
    r.bias_scale.push_back(input_scale * r.scale[o]);
    r.bias.push_back(static_cast<int32_t>(std::nearbyint(bias / r.bias_scale[o])));
  }
  const std::vector<int8_t> q = quantize_weight(node.weight, r.scale);
  Tensor integers(node.weight.shape());
  std::copy(q.begin(), q.end(), integers.f32());
  const Tensor file = to_file(node, integers);  // a span does not own its memory
  for (const float v : file.span<float>()) r.weight.push_back(static_cast<int8_t>(v));
  return r;
}

}  // namespace sextant::deploy
