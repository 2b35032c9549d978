// SPDX-License-Identifier: Apache-2.0
// The identity of a block as a residual.
#include <cmath>

#include "deploy/engine/engine.h"
#include "deploy/engine/simulate.h"
#include "deploy/graph/ranges.h"
#include "quant/small_graphs.h"

using namespace sextant;
using namespace sextant::quant;

namespace {

// chain_graph() with an identity, of another size in each channel, in some of its convolutions.
deploy::Graph with_identity(const std::vector<std::string>& names) {
  deploy::Graph g = test::chain_graph();
  for (const std::string& name : names) {
    deploy::Node& n = g.nodes[static_cast<size_t>(test::node_of(g, name))];
    n.weight = n.weight.clone();
    const int64_t channels = n.weight.dim(0);
    for (float& w : n.weight.span<float>()) w *= 0.1f;
    for (int64_t o = 0; o < channels; ++o)
      n.weight.f32()[(o * 9 + 4) * channels + o] += 1.0f + 0.1f * static_cast<float>(o);
  }
  return g;
}

const deploy::Node& node(const deploy::Graph& g, const std::string& name) {
  return g.nodes[static_cast<size_t>(test::node_of(g, name))];
}

// Power of the noise of weights in steps of their channel's largest, up to a factor.
double noise(const Tensor& w, float a) {
  double sum = 0;
  const int64_t channels = w.dim(0);
  for (int64_t o = 0; o < channels; ++o) {
    float largest = 0;
    for (int64_t i = 0; i < 9 * channels; ++i)
      largest = std::max(
          largest, std::abs(w.f32()[o * 9 * channels + i] - (i == 4 * channels + o ? a : 0.0f)));
    sum += std::pow(static_cast<double>(largest), 2);
  }
  return sum;
}

double rounding_error(const deploy::Node& n) {
  const auto q = deploy::quantize_weight(n.weight, n.weight_scale);
  const size_t inner = q.size() / n.weight_scale.size();
  double sum = 0;
  for (size_t i = 0; i < q.size(); ++i) {
    const double back = static_cast<double>(n.weight_scale[i / inner]) * q[i];
    sum += std::pow(back - static_cast<double>(n.weight.f32()[i]), 2);
  }
  return sum;
}

Tensor output(const deploy::Graph& g, const Tensor& images, deploy::Precision precision) {
  return deploy::Engine(g, {images.dim(0), 16, 16, precision}).run(images);
}

PtqReport report_of(const deploy::Graph& g, bool split, deploy::Graph* quantized = nullptr) {
  PtqReport report;
  int given = 0;
  const deploy::Graph q = quantize(
      g, [&] { return given++ == 0 ? test::noise_images(4, 1) : Tensor(); },
      {.method = Method::kMax, .images = 4, .split_identity = split}, &report);
  if (quantized) *quantized = q;
  return report;
}

}  // namespace

TEST_CASE(
    "split identity: the same function, the least noise, and only for layers with an identity") {
  const deploy::Graph g = with_identity({"c2", "c4"});
  SplitReport report;
  const deploy::Graph split = split_identity(g, &report);
  deploy::validate(split);
  CHECK(report.layers == 2);
  const Tensor images = test::noise_images(2, 3);
  CHECK(test::relative_difference(output(split, images, deploy::Precision::kFloat32),
                                  output(g, images, deploy::Precision::kFloat32)) < 1e-6);
  double gain = 0;
  for (const std::string name : {"c2", "c4"}) {
    const deploy::Node& was = node(g, name);
    const deploy::Node& is = node(split, name);
    const auto& attributes = is.as<deploy::ConvAttributes>();
    const float a = attributes.residual_scale;
    CHECK(attributes.residual_place() == deploy::ResidualPlace::kBeforeActivation);
    CHECK(is.inputs == std::vector<int>{was.inputs[0], was.inputs[0]});
    CHECK((a > 1.0f && a < 1.7f));
    for (float other = 0; other < 2; other += 0.01f)
      CHECK(noise(was.weight, a) <= noise(was.weight, other) * (1 + 1e-6));
    const double left = noise(is.weight, 0);
    CHECK(left == Approx(noise(was.weight, a)));
    gain += 10 * std::log10(noise(was.weight, 0) / left) / 2;
  }
  CHECK(report.gain_db == Approx(gain));
  for (const std::string name : {"c1", "c3", "cls", "reg"}) {
    CHECK_FALSE(node(split, name).has_residual());
    CHECK(node(split, name).weight.raw() == node(g, name).weight.raw());
  }
}

TEST_CASE("split identity: not where x and the result cannot share a range") {
  deploy::Graph g = with_identity({"c2", "c3"});
  // c2's result has a sign, what it reads has none
  g.nodes[static_cast<size_t>(test::node_of(g, "c2"))].as<deploy::ConvAttributes>().activation =
      Activation::kLeakyReLU;
  const deploy::Graph split = split_identity(g);
  CHECK_FALSE(node(split, "c2").has_residual());
  CHECK_FALSE(node(split, "c3").has_residual());
}

TEST_CASE(
    "split identity: quantization causes less noise, and all engines give the same integers") {
  const deploy::Graph g = with_identity({"c2", "c3", "c4"});
  deploy::Graph q, whole;
  const PtqReport with = report_of(g, true, &q), without = report_of(g, false, &whole);
  CHECK(with.split.layers == 3);
  CHECK(without.split.layers == 0);
  CHECK(with.requantizations == 0);
  for (const std::string name : {"c2", "c3", "c4"})
    CHECK(rounding_error(node(q, name)) * 4 < rounding_error(node(whole, name)));
  const Tensor images = test::noise_images(3, 5);
  const deploy::EngineConfig config{3, 16, 16, deploy::Precision::kInt8};
  deploy::Engine engine(q, config);
  deploy::Engine simulation = deploy::make_simulation(q, config);
  for (const auto& d : deploy::compare_engines(engine, simulation, images)) {
    CAPTURE(d.tensor);
    CHECK(d.max_steps == 0);
  }
  deploy::Engine integer(q, {3, 16, 16, deploy::Precision::kInteger});
  for (const auto& d : deploy::compare_layers(integer, engine, images)) {
    CAPTURE(d.tensor);
    CHECK(d.max_steps <= 1);
  }
}
