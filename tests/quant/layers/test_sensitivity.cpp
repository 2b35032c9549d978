// SPDX-License-Identifier: Apache-2.0
// Sensitivity: scores against whole simulations, rankings whose answer is known.
#include <cmath>

#include "deploy/engine/simulate.h"
#include "quant/layers/float_layers.h"
#include "quant/layers/incremental_runner.h"
#include "quant/layers/sensitivity.h"
#include "quant/small_graphs.h"

using namespace sextant;
using namespace sextant::quant;

namespace {

// The values of some tensors in a simulation of the whole graph.
std::vector<Tensor> simulated(const deploy::Graph& graph, const Tensor& images,
                              const std::vector<int>& tensors) {
  deploy::Engine engine =
      deploy::make_simulation(graph, {images.dim(0), images.dim(1), images.dim(2)});
  std::vector<Tensor> result(tensors.size());
  engine.run(images, [&](const deploy::TensorView& v) {
    for (size_t i = 0; i < tensors.size(); ++i)
      if (tensors[i] == v.id) result[i] = v.values();
  });
  return result;
}

double noise_between(const std::vector<Tensor>& exact, const std::vector<Tensor>& got) {
  double mean = 0;
  for (size_t k = 0; k < exact.size(); ++k) {
    double noise = 0, signal = 0;
    for (int64_t i = 0; i < exact[k].numel(); ++i) {
      noise += std::pow(static_cast<double>(got[k].f32()[i]) - exact[k].f32()[i], 2);
      signal += std::pow(static_cast<double>(exact[k].f32()[i]), 2);
    }
    mean += noise / signal / static_cast<double>(exact.size());
  }
  return mean;
}

std::vector<int> all_but(const deploy::Graph& graph, int layer) {
  return other_layers(graph, {layer});
}

// The tensor of `name` clipped to a hundredth of its range.
void spoil(deploy::Graph& graph, const std::string& name) {
  graph.tensors[static_cast<size_t>(graph.find_tensor(name))].amax *= 0.01f;
}

}  // namespace

TEST_CASE("a layer's score is that of a simulation of the whole graph") {
  const bool but = GENERATE(false, true);
  const deploy::Graph g = test::calibrated(test::mixed_graph());
  const Tensor images = test::noise_images(3, 7);
  SensitivityConfig config;
  config.all_but = but;
  const Sensitivity s = rank_layers(g, images, config);
  const std::vector<int> layers = quantizable_layers(g);
  REQUIRE(layers.size() == 10);
  REQUIRE(s.layers.size() == 10);
  const std::vector<int> outputs = judged_tensors(g);
  REQUIRE(outputs.size() == 2);
  const std::vector<Tensor> exact = simulated(with_float_layers(g, layers), images, outputs);
  for (const LayerScore& l : s.layers) {
    CAPTURE(l.name, but);
    const deploy::Graph variant =
        with_float_layers(g, but ? std::vector<int>{l.node} : all_but(g, l.node));
    CHECK(l.error.noise ==
          Approx(noise_between(exact, simulated(variant, images, outputs))).epsilon(1e-9));
    CHECK(l.error.noise > 0);
  }
  CHECK(s.all_int8.noise ==
        Approx(noise_between(exact, simulated(with_float_layers(g, {}), images, outputs)))
            .epsilon(1e-9));
  for (size_t i = 1; i < s.layers.size(); ++i) CHECK(s.layers[i - 1].harm >= s.layers[i].harm);

  // one image at a time, for want of memory
  config.memory = 1;
  const Sensitivity small = rank_layers(g, images, config);
  for (size_t i = 0; i < s.layers.size(); ++i) {
    CHECK(small.layers[i].name == s.layers[i].name);
    CHECK(small.layers[i].error.noise == Approx(s.layers[i].error.noise).epsilon(1e-4));
  }
}

TEST_CASE("a layer's own error is measured at its own output") {
  const deploy::Graph g = test::calibrated(test::mixed_graph());
  const Tensor images = test::noise_images(2, 8);
  SensitivityConfig config;
  config.own_output = true;
  const std::vector<int> layers = quantizable_layers(g);
  for (const LayerScore& l : rank_layers(g, images, config).layers) {
    CAPTURE(l.name);
    const std::vector<int> own{g.nodes[static_cast<size_t>(l.node)].output};
    const double expected =
        noise_between(simulated(with_float_layers(g, layers), images, own),
                      simulated(with_float_layers(g, all_but(g, l.node)), images, own));
    CHECK(l.error.noise == Approx(expected).epsilon(1e-9));
    CHECK(l.error.noise > 0);
  }
}

TEST_CASE("the layer with a terrible range ranks first by every metric, alone and all but it") {
  const std::string metric = GENERATE("sqnr", "mse", "cosine", "map");
  const bool but = GENERATE(false, true);
  const std::string bad = GENERATE("c2", "c3");
  deploy::Graph g = test::calibrated(test::chain_graph());
  spoil(g, bad == "c2" ? "c1" : "c2");  // what it reads
  const Tensor images = test::noise_images(2, 9);
  SensitivityConfig config;
  config.metric = from_name<Metric>(metric);
  config.all_but = but;
  // an "accuracy" that falls with the error of the int8 engine's result
  const Tensor exact = deploy::Engine(g, {2, 16, 16}).run(images);
  int calls = 0;
  const Accuracy accuracy = [&](const deploy::Graph& variant) {
    ++calls;
    deploy::Engine engine(variant, {2, 16, 16, deploy::Precision::kInt8});
    return 1 - test::relative_difference(engine.run(images), exact);
  };
  const Sensitivity s = rank_layers(g, images, config, accuracy);
  CAPTURE(metric, but, bad);
  REQUIRE(s.layers.size() == 6);
  CHECK(s.layers[0].name == bad);
  CHECK(s.layers[0].harm > 3 * s.layers[1].harm);
  CHECK(calls == (metric == "map" ? 8 : 0));
}

TEST_CASE("only what a variant changes is run") {
  const deploy::Graph g = test::calibrated(test::chain_graph());
  const std::vector<int> layers = quantizable_layers(g);
  IncrementalRunner runner(with_float_layers(g, layers), 1, 16, 16);
  runner.run_base(test::noise_images(1, 3));
  const std::vector<int> outputs = judged_tensors(g);
  const auto nodes_run = [&](const std::string& layer) {
    runner.run(with_float_layers(g, all_but(g, test::node_of(g, layer))), outputs);
    return runner.nodes_run();
  };
  CHECK(nodes_run("c1") == 6);   // the image's integers are in the base already
  CHECK(nodes_run("c3") == 5);   // from c2 on, whose result is rounded
  CHECK(nodes_run("cls") == 3);  // c4, cls, and reg, which reads what is rounded for cls
  runner.run(with_float_layers(g, layers), outputs);
  CHECK(runner.nodes_run() == 0);
}

TEST_CASE("a variant must match the base graph") {
  const deploy::Graph g = test::calibrated(test::chain_graph());
  IncrementalRunner runner(g, 1, 16, 16);
  CHECK(test::error_of([&] {
          runner.run_base(Tensor({2, 16, 16, 3}, DType::kU8));
        }) == "variants: images must be u8 [1,16,16,3]");
  CHECK(test::error_of([&] { runner.run(test::calibrated(test::mixed_graph()), {1}); }) ==
        "variants: the graphs have 8 and 16 nodes");
}

TEST_CASE("a ranking refuses unsupported combinations") {
  const deploy::Graph g = test::calibrated(test::chain_graph());
  const Tensor images = test::noise_images(1, 1);
  CHECK(test::error_of([&] { rank_layers(test::chain_graph(), images, {}); }) ==
        "the model: no layer can run in int8; quantize the model first");
  CHECK(test::error_of([&] { rank_layers(g, Tensor(), {}); }) == "sensitivity: no images");
  SensitivityConfig config;
  config.own_output = config.all_but = true;
  CHECK(test::error_of([&] { rank_layers(g, images, config); }) ==
        "sensitivity: a layer's own output cannot measure all but that layer");
  config = {};
  config.metric = Metric::kMap;
  CHECK(test::error_of([&] { rank_layers(g, images, config); }) ==
        "sensitivity: metric map needs an evaluation function");
  CHECK(test::error_of([&] { from_name<Metric>("mape"); }) ==
        "unknown metric 'mape'; use sqnr, mse, cosine or map");
}

TEST_CASE("Spearman's rank correlation") {
  CHECK(spearman({1, 2, 3, 4}, {10, 20, 30, 1000}) == Approx(1));
  CHECK(spearman({1, 2, 3, 4}, {4, 3, 2, 1}) == Approx(-1));
  // d = (1, -1, 0, 0): 1 - 6 * 2 / (4 * 15)
  CHECK(spearman({1, 2, 3, 4}, {2, 1, 3, 4}) == Approx(0.8));
  // ties share their rank: ranks (1.5, 1.5, 3) and (1, 2, 3)
  CHECK(spearman({5, 5, 6}, {1, 2, 3}) == Approx(1.5 / std::sqrt(1.5 * 2)));
  CHECK(spearman({1, 1}, {1, 2}) == 0);
}
