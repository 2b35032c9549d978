// SPDX-License-Identifier: Apache-2.0
// The samples of the layer-by-layer methods, and their effect on a network.
#include <algorithm>
#include <cmath>

#include "deploy/engine/engine.h"
#include "deploy/graph/conv_layers.h"
#include "deploy/graph/ranges.h"
#include "quant/layers/float_layers.h"
#include "quant/layers/partial.h"
#include "quant/net.h"
#include "quant/ptq/layer_correction.h"

using namespace sextant;
using namespace sextant::quant;

namespace {

// A grouped convolution, residuals on both sides of the activation, a deconv, a float output.
deploy::Graph mixed() {
  test::GraphBuilder b;
  const int stem = b.conv(b.g.input, 8, 3, Activation::kReLU);
  const int grouped = b.conv(stem, 8, 3, Activation::kReLU, 4);
  const int after = b.conv(grouped, 8, 1, Activation::kReLU, 1, stem);
  const int before = b.conv(after, 8, 3, Activation::kReLU, 1, after, true);
  const int up = b.deconv(b.conv(before, 6, 1, Activation::kSiLU), 5, Activation::kIdentity);
  return b.finish(b.conv(up, 4, 1, Activation::kReLU));
}

Images some_images(int64_t n) {
  Images images;
  for (int64_t i = 0; i < n; ++i)
    images.push_back(test::random_images(1, 50 + static_cast<uint64_t>(i)));
  return images;
}

deploy::Graph quantized(const deploy::Graph& g, PtqConfig config, PtqReport* report = nullptr) {
  return quantize(g, test::source_of(some_images(6)), config, report);
}

void check_samples(const deploy::Graph& g) {
  const deploy::Graph q = quantized(g, {.method = Method::kMax});
  const Images images = some_images(3);
  const std::vector<int64_t> rows(g.nodes.size(), 50);
  const std::vector<LayerSample> exact = sample_exact(g, images, rows, 1);
  int compared = 0;
  QuantizedPass pass(q, images, 1);
  for (size_t n = 0; n < g.nodes.size(); ++n, pass.advance(q)) {
    const deploy::Node& node = q.nodes[n];
    if (!node.has_weight()) continue;
    CAPTURE(node.name);
    const QuantizedSample s = pass.sample(q, 50);
    const int64_t o = node.weight.dim(0);
    const bool deconv = node.is<deploy::DeconvAttributes>();
    const int64_t m = deconv ? 4 * o : o;
    REQUIRE(s.result.outputs.shape() == Shape{50, m});
    REQUIRE(exact[n].outputs.shape() == Shape{50, m});
    const std::vector<int8_t> w = deploy::quantize_weight(node.weight, node.weight_scale);
    // the row's inputs times the integer weights make the row's results
    const int64_t groups = deploy::conv_attributes(node).groups;
    const int64_t k = s.inputs[0].dim(1);
    Tensor expected({50, m});
    for (int64_t r = 0; r < 50; ++r)
      for (int64_t c = 0; c < m; ++c) {
        const int64_t oc = c % o;
        const Tensor& x = s.inputs[static_cast<size_t>(oc / (o / groups))];
        const int64_t at = deconv ? (oc * 4 + c / o) * k : oc * k;
        double z = node.bias.defined() ? node.bias.f32()[oc] : 0.0f;
        for (int64_t i = 0; i < k; ++i)
          z += static_cast<double>(x.f32()[r * k + i]) * w[static_cast<size_t>(at + i)] *
               node.weight_scale[static_cast<size_t>(oc)];
        expected.f32()[r * m + c] = static_cast<float>(z);
      }
    CHECK(test::relative_difference(s.result.outputs, expected) < 1e-5);
    const double noise = test::relative_difference(s.result.outputs, exact[n].outputs);
    CHECK(noise > 0);
    CHECK(noise < 0.1);  // other pixels would differ altogether
    ++compared;
  }
  CHECK(compared == std::count_if(g.nodes.begin(), g.nodes.end(),
                                  [](const deploy::Node& n) { return n.has_weight(); }));
}

}  // namespace

TEST_CASE("samples are the layers' own sums, exact and quantized, at the same pixels") {
  check_samples(mixed());
  // pooling, and a concat with one of its inputs in its buffer
  check_samples(test::QuantNet().graph());
}

TEST_CASE("the means of the exact sample are those of the fp32 engine") {
  const deploy::Graph g = mixed();
  const Images images = some_images(3);
  const std::vector<LayerSample> exact =
      sample_exact(g, images, std::vector<int64_t>(g.nodes.size(), 0), 1);
  // the deconv has neither activation nor residual: its result is its tensor
  const deploy::Node* deconv = nullptr;
  for (const deploy::Node& n : g.nodes)
    if (n.is<deploy::DeconvAttributes>()) deconv = &n;
  std::vector<double> mean(5, 0.0);
  deploy::Engine engine(g, {1, 16, 16});
  for (const Tensor& image : images)
    engine.run(image, [&](const deploy::TensorView& v) {
      if (v.id != deconv->output) return;
      const Tensor values = v.values();
      for (int64_t i = 0; i < values.numel(); ++i)
        mean[static_cast<size_t>(i % 5)] += values.f32()[i] / (3.0 * 32 * 32);
    });
  const LayerSample& sample = exact[static_cast<size_t>(deconv - g.nodes.data())];
  CHECK_FALSE(sample.outputs.defined());
  for (size_t c = 0; c < 5; ++c) CHECK(std::abs(sample.mean[c] - mean[c]) < 1e-5);
}

TEST_CASE("bias correction makes the means of every layer meet") {
  const deploy::Graph g = mixed();
  PtqReport report;
  const deploy::Graph q = quantized(g, {.naive = true, .bias_correction = true}, &report);
  CHECK(report.refinement.layers_corrected == 7);
  CHECK(report.refinement.largest_shift > 0);
  const deploy::Graph before = quantized(g, {.naive = true});
  const Images images = some_images(6);
  const std::vector<int64_t> no_rows(g.nodes.size(), 0);
  const std::vector<LayerSample> exact = sample_exact(g, images, no_rows, 1);
  QuantizedPass corrected(q, images, 1), plain(before, images, 1);
  const auto shift = [&](const QuantizedPass& pass, const deploy::Graph& graph, size_t n) {
    const QuantizedSample s = pass.sample(graph, 0);
    double largest = 0;
    for (size_t c = 0; c < exact[n].mean.size(); ++c)
      largest = std::max(largest, std::abs(s.result.mean[c] - exact[n].mean[c]));
    return largest;
  };
  for (size_t n = 0; n < g.nodes.size(); ++n, corrected.advance(q), plain.advance(before)) {
    if (!g.nodes[n].has_weight()) continue;
    CAPTURE(g.nodes[n].name);
    CHECK(shift(corrected, q, n) < 0.02 * shift(plain, before, n) + 1e-5);
    CHECK(test::max_difference(q.nodes[n].weight, before.nodes[n].weight) == 0.0);
  }
}

TEST_CASE("learned rounding of a network lowers its error and stays on the grid") {
  const deploy::Graph g = mixed();
  PtqConfig config{.method = Method::kMax, .naive = true, .rounding = Rounding::kAdaRound};
  config.adaround.iterations = 150;
  config.adaround.rows = 512;
  PtqReport report;
  const deploy::Graph q = quantized(g, config, &report);
  CHECK(report.refinement.layers_rounded == 7);
  CHECK(report.refinement.weights_moved > 0);
  CHECK(report.refinement.rounding_gain_db > 0.1);
  CHECK(report.sqnr > report.sqnr_before);
  for (const deploy::Node& n : q.nodes) {
    if (!n.has_weight()) continue;
    const std::vector<int8_t> w = deploy::quantize_weight(n.weight, n.weight_scale);
    const int64_t inner = n.weight.numel() / n.weight.dim(0);
    for (int64_t i = 0; i < n.weight.numel(); ++i)
      CHECK(n.weight.f32()[i] == static_cast<float>(w[static_cast<size_t>(i)]) *
                                     n.weight_scale[static_cast<size_t>(i / inner)]);
  }
}

TEST_CASE("nodes kept in float keep their weights and biases") {
  deploy::Graph g = mixed();
  deploy::Node& kept = g.nodes[4];
  kept.precision = deploy::Precision::kFloat32;
  PtqConfig config{.bias_correction = true, .rounding = Rounding::kAdaRound};
  config.adaround.iterations = 20;
  PtqReport report;
  const deploy::Graph q = quantized(g, config, &report);
  CHECK(report.refinement.layers_rounded == 6);
  CHECK(report.refinement.layers_corrected == 6);
  CHECK(test::max_difference(q.nodes[4].weight, kept.weight) == 0.0);
  CHECK(test::max_difference(q.nodes[4].bias, kept.bias) == 0.0);
  CHECK(test::max_difference(q.nodes[2].bias, g.nodes[2].bias) > 0.0);
  const Images images = some_images(1);
  QuantizedPass pass(q, images, 1);
  while (pass.next() < 4) pass.advance(q);
  CHECK(test::error_of([&] { pass.sample(q, 0); }) ==
        "ptq: node '" + kept.name + "' does not run in int8");
}

TEST_CASE("layers named as float are in float from the start") {
  const deploy::Graph g = mixed();
  PtqConfig config{.naive = true, .bias_correction = true, .rounding = Rounding::kAdaRound};
  config.adaround.iterations = 20;
  config.float_layers = {g.nodes[3].name, "deconv*"};
  PtqReport report;
  const deploy::Graph q = quantized(g, config, &report);
  CHECK(report.layers == 7);
  CHECK(report.float_layers == 2);
  CHECK(report.refinement.layers_corrected == 5);
  for (size_t n = 0; n < g.nodes.size(); ++n) {
    const deploy::Node& node = q.nodes[n];
    if (!node.has_weight()) continue;
    CAPTURE(node.name);
    const bool named = n == 3 || node.is<deploy::DeconvAttributes>();
    CHECK((node.precision == deploy::Precision::kFloat32) == named);
    CHECK((test::max_difference(node.weight, g.nodes[n].weight) == 0.0) == named);
    // the others were corrected behind layers that run in float
    if (named) CHECK(test::max_difference(node.bias, g.nodes[n].bias) == 0.0);
  }
  config.float_layers = {"conv99"};
  CHECK(test::error_of([&] { quantized(g, config); }).starts_with("no layer 'conv99'"));
}

TEST_CASE("a layer put back into float has its own weights and bias again") {
  const deploy::Graph g = mixed();
  PtqConfig config{.naive = true, .bias_correction = true, .rounding = Rounding::kAdaRound};
  config.adaround.iterations = 20;
  PtqReport report;
  const deploy::Graph q = quantized(g, config, &report);
  const std::vector<int> layers = quantizable_layers(q);
  const Tensor image = test::random_images(1, 9);
  const Tensor exact = deploy::Engine(g, {1, 16, 16}).run(image);
  const auto all_float = [&](const deploy::Graph& graph) {
    return deploy::Engine(graph, {1, 16, 16, deploy::Precision::kInt8}).run(image);
  };
  CHECK(test::relative_difference(all_float(with_float_layers(q, layers, &report.exact)), exact) <
        1e-6);
  CHECK(test::relative_difference(all_float(with_float_layers(q, layers)), exact) > 1e-4);

  const deploy::Graph one = with_float_layers(q, {layers[2]}, &report.exact);
  for (const int l : layers) {
    const auto n = static_cast<size_t>(l);
    const deploy::Node& from = l == layers[2] ? report.exact.nodes[n] : q.nodes[n];
    CHECK(test::max_difference(one.nodes[n].weight, from.weight) == 0.0);
    CHECK(test::max_difference(one.nodes[n].bias, from.bias) == 0.0);
  }

  // the float graph that sensitivity and partial quantization compare with
  std::vector<deploy::Graph> judged;
  const Accuracy accuracy = [&](const deploy::Graph& graph) {
    judged.push_back(graph);
    return 0.5;
  };
  SensitivityConfig by_map{.metric = Metric::kMap};
  by_map.exact = &report.exact;
  rank_layers(q, Tensor(), by_map, accuracy);
  REQUIRE(judged.size() == layers.size() + 2);
  CHECK(test::relative_difference(all_float(judged[0]), exact) < 1e-6);

  SensitivityConfig by_noise;
  by_noise.exact = &report.exact;
  const Sensitivity noise = rank_layers(q, image, by_noise);
  PartialMeasures measures{.accuracy = accuracy,
                           .speedup = [](const deploy::Graph&) { return 1.0; },
                           .times = {},
                           .batch = 1,
                           .height = 16,
                           .width = 16};
  measures.times.fp32.assign(q.nodes.size(), 2.0);
  measures.times.int8.assign(q.nodes.size(), 1.0);
  PartialConfig partial;
  partial.exact = &report.exact;
  partial.always = {layers[2]};
  judged.clear();
  const PartialResult r = choose_float_layers(q, noise, measures, partial);
  CHECK(test::relative_difference(all_float(judged.at(0)), exact) < 1e-6);
  const auto kept = static_cast<size_t>(layers[2]);
  CHECK(test::max_difference(r.graph.nodes[kept].weight, report.exact.nodes[kept].weight) == 0.0);
}
