// SPDX-License-Identifier: Apache-2.0
#include "quant/ptq/layer_correction.h"

#include <algorithm>
#include <cmath>

#include "core/progress.h"
#include "deploy/engine/conv_step.h"
#include "deploy/engine/engine.h"
#include "deploy/graph/conv_layers.h"
#include "deploy/graph/ranges.h"
#include "quant/ptq/bias_correction.h"

namespace sextant::quant {
namespace {

using deploy::Graph;
using deploy::Node;

Tensor columns(const Tensor& t, int64_t begin, int64_t count) {
  if (count == t.dim(1)) return t;
  Tensor part({t.dim(0), count});
  for (int64_t r = 0; r < t.dim(0); ++r)
    std::copy_n(t.f32() + r * t.dim(1) + begin, count, part.f32() + r * count);
  return part;
}

int64_t weights_per_channel(const Node& node) {
  return node.is<deploy::DeconvAttributes>() ? node.weight.dim(3)
                                             : node.weight.numel() / node.weight.dim(0);
}

// The inverse of deconv_as_pointwise().
Tensor pointwise_as_deconv(const Tensor& rows, const Shape& shape) {
  Tensor weight(shape);
  const int64_t o = shape[0], i = shape[3];
  for (int64_t oc = 0; oc < o; ++oc)
    for (int64_t tap = 0; tap < 4; ++tap)
      std::copy_n(rows.f32() + (tap * o + oc) * i, i, weight.f32() + (oc * 4 + tap) * i);
  return weight;
}

// Stores learned integers (times scale) in the node's weight.
void round_layer(Node& node, const QuantizedSample& sample, const Tensor& targets,
                 const RoundingConfig& config, LayerCorrectionReport& report) {
  const deploy::ConvForm form(node);
  const Tensor& matrix = form.weight;
  const int64_t k = weights_per_channel(node);
  const int64_t per_group = matrix.dim(0) / form.attributes.groups;
  const int64_t o = node.weight.dim(0);
  Tensor rounded({matrix.dim(0), k});
  double nearest = 0.0, learned = 0.0;
  for (int64_t g = 0; g < form.attributes.groups; ++g) {
    RoundingProblem p;
    p.inputs = sample.inputs[static_cast<size_t>(g)];
    p.targets = columns(targets, g * per_group, per_group);
    p.weight = Tensor({per_group, k});
    std::copy_n(matrix.f32() + g * per_group * k, per_group * k, p.weight.f32());
    for (int64_t m = g * per_group; m < (g + 1) * per_group; ++m) {
      p.scale.push_back(node.weight_scale[static_cast<size_t>(m % o)]);
      p.bias.push_back(node.bias.defined() ? node.bias.f32()[m % o] : 0.0f);
    }
    // The sample does not include a residual that is added before the activation.
    const bool adds_before =
        form.attributes.residual_place() == deploy::ResidualPlace::kBeforeActivation;
    p.activation = adds_before ? Activation::kIdentity : form.attributes.activation;
    const RoundingResult r = learn_rounding(p, config);
    std::copy_n(r.weight.f32(), per_group * k, rounded.f32() + g * per_group * k);
    report.weights_moved += r.moved;
    nearest += r.nearest;
    learned += r.learned;
  }
  node.weight = form.scattered ? pointwise_as_deconv(rounded, node.weight.shape())
                               : rounded.reshape(node.weight.shape());
  report.weights += node.weight.numel();
  ++report.layers_rounded;
  if (learned > 0) report.rounding_gain_db += 10.0 * std::log10(nearest / learned);
}

}  // namespace

LayerCorrectionReport correct_layers(Graph& graph, const Graph& exact, const Images& images,
                                     const LayerCorrectionConfig& config) {
  LayerCorrectionReport report;
  if (!config.learned_rounding && !config.bias_correction) return report;
  std::vector<int64_t> rows(graph.nodes.size(), 0);
  int64_t total = 0;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (!deploy::runs_in_int8(graph, node)) continue;
    ++total;
    if (config.learned_rounding) rows[n] = rows_for(config.rounding, weights_per_channel(node));
  }
  std::vector<LayerSample> wanted = sample_exact(exact, images, rows, config.seed);
  Progress progress(
      config.learned_rounding ? "learning the rounding of layer" : "correcting the biases of layer",
      total);
  QuantizedPass pass(graph, images, config.seed);
  int64_t done = 0;
  for (size_t n = 0; n < graph.nodes.size(); ++n, pass.advance(graph)) {
    Node& node = graph.nodes[n];
    if (!deploy::runs_in_int8(graph, node)) continue;
    QuantizedSample seen = pass.sample(graph, rows[n]);
    if (config.learned_rounding) {
      round_layer(node, seen, wanted[n].outputs, config.rounding, report);
      if (config.bias_correction) seen = pass.sample(graph, 0);
    }
    if (config.bias_correction) {
      report.largest_shift =
          std::max(report.largest_shift, correct_bias(node, wanted[n], seen.result));
      ++report.layers_corrected;
    }
    wanted[n] = {};
    progress.update(++done, node.name);
  }
  progress.finish();
  if (report.layers_rounded > 0)
    report.rounding_gain_db /= static_cast<double>(report.layers_rounded);
  return report;
}

double output_sqnr(const Graph& exact, const Graph& quantized, const Images& images) {
  check(!images.empty(), "ptq: no images to compare outputs on");
  std::vector<int> tensors{exact.output};
  if (const Node* decode = exact.decode()) tensors = decode->inputs;
  const deploy::EngineConfig config{
      .batch = 1, .height = images[0].dim(1), .width = images[0].dim(2)};
  deploy::EngineConfig int8 = config;
  int8.precision = deploy::Precision::kInt8;
  deploy::Engine reference(exact, config);
  deploy::Engine engine(quantized, int8);
  const auto position = [&](int id) {
    return std::find(tensors.begin(), tensors.end(), id) - tensors.begin();
  };
  std::vector<double> signal(tensors.size() + 1, 0.0), noise(tensors.size() + 1, 0.0);
  for (const Tensor& image : images) {
    std::vector<Tensor> values(tensors.size() + 1);
    reference.run(image, [&](const deploy::TensorView& v) {
      if (const auto i = position(v.id); i < std::ssize(tensors))
        values[static_cast<size_t>(i)] = v.values();
    });
    engine.run(image, [&](const deploy::TensorView& v) {
      const auto i = static_cast<size_t>(position(v.id));
      if (i == tensors.size()) return;
      const Tensor q = v.values();
      for (int64_t k = 0; k < q.numel(); ++k) {
        const double x = values[i].f32()[k];
        signal[i] += x * x;
        noise[i] += (x - q.f32()[k]) * (x - q.f32()[k]);
      }
    });
  }
  double sum = 0.0;
  for (size_t i = 0; i < tensors.size(); ++i)
    sum += noise[i] > 0 ? std::min(200.0, 10.0 * std::log10(signal[i] / noise[i])) : 200.0;
  return sum / static_cast<double>(tensors.size());
}

}  // namespace sextant::quant
