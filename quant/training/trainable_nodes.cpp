// SPDX-License-Identifier: Apache-2.0
#include "quant/training/trainable_nodes.h"

#include "deploy/graph/conv_layers.h"
#include "deploy/graph/node_rules.h"
#include "layers/functional.h"

namespace sextant::quant {
namespace {

using deploy::NodeKind;

// a + factor * b
Variable sum(const Variable& a, const Variable& b, float factor) {
  if (factor == 1.0f) return add(a, b);
  return add(a, b, Variable(Tensor::full(Shape{1}, factor, a.data().device())));
}

// A constant factor for each channel.
Variable times_channels(const Variable& x, const Tensor& factors) {
  const int64_t channels = factors.numel();
  const Tensor weight = factors.to(x.data().device()).reshape(Shape{channels, 1, 1, 1});
  return conv2d(x, Variable(weight), {}, {1, 0, channels});
}

Variable integer_conv(const TrainableNode& n, const deploy::ConvAttributes& a) {
  QuantizedConv conv;
  conv.weight = n.weight;
  conv.weight_scale = n.weight_scale;
  conv.bias = n.bias;
  conv.params = {a.stride, a.padding, a.groups};
  conv.transposed = n.node.is<deploy::DeconvAttributes>();
  conv.epilogue = deploy::epilogue_of(n.node);
  if (n.node.gain.defined()) conv.gain = n.node.gain.to(n.weight.data().device());
  if (a.residual) conv.residual = n.inputs[1];
  conv.source = *n.input_ranges[0];
  if (n.output_range) conv.destination = *n.output_range;
  return quantized_conv(n.inputs[0], conv);
}

Variable convolution(const TrainableNode& n) {
  const deploy::ConvAttributes a = deploy::conv_attributes(n.node);
  if (n.runs_in_int8) return integer_conv(n, a);
  const auto place = a.residual_place();
  const Variable x = n.real(0);
  Variable y = n.node.is<deploy::DeconvAttributes>()
                   ? conv_transpose2d(x, n.weight, n.bias)
                   : conv2d(x, n.weight, n.bias, {a.stride, a.padding, a.groups});
  if (place == deploy::ResidualPlace::kBeforeActivation) y = sum(y, n.real(1), a.residual_scale);
  if (a.activation != Activation::kIdentity) y = activation(y, a.activation);
  if (n.node.gain.defined()) y = times_channels(y, n.node.gain);
  if (place == deploy::ResidualPlace::kAfterActivation) y = sum(y, n.real(1), a.residual_scale);
  return n.finished(y);
}

Variable max_pool(const TrainableNode& n) {
  const auto& a = n.node.as<deploy::MaxPoolAttributes>();
  check(!a.ceil_mode, "trainable graph: node '{}' rounds its size up and cannot be trained",
        n.node.name);
  return max_pool2d(n.inputs[0], {a.kernel, a.stride, a.padding});
}

Variable upsample(const TrainableNode& n) {
  return upsample_nearest(n.inputs[0], n.node.as<deploy::UpsampleAttributes>().scale);
}

Variable concatenation(const TrainableNode& n) { return concat(n.inputs); }

Variable addition(const TrainableNode& n) {
  const float factor = n.node.as<deploy::AddAttributes>().residual_scale;
  if (n.output_range) return quantized_add(n.inputs[0], n.inputs[1], factor, *n.output_range);
  return sum(n.inputs[0], n.inputs[1], factor);
}

Variable activated(const TrainableNode& n) {
  return n.finished(activation(n.real(0), n.node.activation()));
}

Variable product(const TrainableNode& n) { return n.finished(multiply(n.real(0), n.real(1))); }

Variable average(const TrainableNode& n) { return n.finished(global_average(n.real(0))); }

Variable gathered(const TrainableNode& n) {
  return permute_channels(n.inputs[0], n.node.as<deploy::GatherAttributes>().channels);
}

Variable slice(const TrainableNode& n) {
  const auto& a = n.node.as<deploy::SliceAttributes>();
  return slice_channels(n.inputs[0], a.begin, a.end);
}

// The kinds in detectors: TrainableGraph handles the image and the decode node itself, and softmax
// belongs to classifiers, which have no decode node and cannot be trained.
struct Row {
  NodeKind kind;
  Variable (*run)(const TrainableNode&);
};
constexpr Row kFunctions[] = {{NodeKind::kConv, convolution},     {NodeKind::kDeconv, convolution},
                              {NodeKind::kMaxPool, max_pool},     {NodeKind::kUpsample, upsample},
                              {NodeKind::kConcat, concatenation}, {NodeKind::kAdd, addition},
                              {NodeKind::kActivation, activated}, {NodeKind::kSlice, slice},
                              {NodeKind::kMultiply, product},     {NodeKind::kGather, gathered},
                              {NodeKind::kGlobalAvgPool, average}};

}  // namespace

Variable run_trainable(const TrainableNode& n) {
  const NodeKind kind = n.node.kind();
  const Row* row = deploy::row_of(kFunctions, kind);
  check(row != nullptr, "trainable graph: node '{}' of kind {} cannot be trained", n.node.name,
        sextant::name_of(kind));
  return row->run(n);
}

}  // namespace sextant::quant
