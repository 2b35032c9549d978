// SPDX-License-Identifier: Apache-2.0
// Partial quantization: the effect of float layers on a graph, and their choice.
#include <numeric>

#include "deploy/engine/simulate.h"
#include "deploy/graph/file.h"
#include "deploy/graph/info.h"
#include "deploy/graph/ranges.h"
#include "quant/layers/float_layers.h"
#include "quant/layers/partial.h"
#include "quant/small_graphs.h"

using namespace sextant;
using namespace sextant::quant;

namespace {

const deploy::TensorInfo& tensor(const deploy::Graph& g, const std::string& name) {
  return g.tensors.at(static_cast<size_t>(g.find_tensor(name)));
}
std::vector<int> nodes(const deploy::Graph& g, const std::vector<std::string>& names) {
  std::vector<int> result;
  for (const std::string& name : names) result.push_back(test::node_of(g, name));
  return result;
}

// Which tensors have ranges, by name.
std::string ranged(const deploy::Graph& g) {
  std::string names;
  for (const deploy::TensorInfo& t : g.tensors)
    if (t.has_range()) names += (names.empty() ? "" : " ") + t.name;
  return names;
}

// A chain with noise and times by layer (c1, c2, c3, c4, cls, reg), conversions at `convert` ms
// each, whatever they convert.
struct Toy {
  deploy::Graph graph = test::calibrated(test::chain_graph());
  std::vector<int> layers = quantizable_layers(graph);
  Sensitivity sensitivity;
  PartialMeasures measures;
  mutable int evaluations = 0;

  Toy(const std::vector<double>& noise, const std::vector<double>& extra_ms, double convert = 0) {
    for (size_t i = 0; i < layers.size(); ++i) {
      LayerScore s;
      s.node = layers[i];
      s.name = graph.nodes[static_cast<size_t>(layers[i])].name;
      s.error.noise = noise[i];
      sensitivity.layers.push_back(s);
    }
    LayerTimes& t = measures.times;
    t.fp32.assign(graph.nodes.size(), 0);
    t.int8.assign(graph.nodes.size(), 0);
    for (size_t i = 0; i < layers.size(); ++i) {
      t.int8[static_cast<size_t>(layers[i])] = 1;
      t.fp32[static_cast<size_t>(layers[i])] = 1 + extra_ms[i];
    }
    t.to_float = t.to_int8 = convert / (8 * 8 * 8);  // of the maps between the convolutions
    measures.height = measures.width = 16;
    measures.accuracy = [this](const deploy::Graph& g) {
      ++evaluations;
      return 1 - lost(g);
    };
    measures.speedup = [this](const deploy::Graph& g) { return float_ms() / ms(g); };
  }
  // The noise of the layers in int8.
  double lost(const deploy::Graph& g) const {
    double sum = 0;
    for (const LayerScore& s : sensitivity.layers)
      if (g.nodes[static_cast<size_t>(s.node)].precision == deploy::Precision::kInt8)
        sum += s.error.noise;
    return sum;
  }
  double ms(const deploy::Graph& g) const { return predict_ms(g, measures.times, 1, 16, 16); }
  double float_ms() const {
    return std::accumulate(measures.times.fp32.begin(), measures.times.fp32.end(), 0.0);
  }
  PartialResult choose(const PartialConfig& config) const {
    return choose_float_layers(graph, sensitivity, measures, config);
  }
  std::vector<std::string> names(const PartialResult& r) const {
    std::vector<std::string> result;
    for (const int l : r.curve[r.chosen].layers)
      result.push_back(graph.nodes[static_cast<size_t>(l)].name);
    return result;
  }
};

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a tensor is integers only where an int8 layer reads it") {
  const deploy::Graph g = test::calibrated(test::chain_graph());
  CHECK(ranged(g) == "images c1 c2 c3 c4");
  CHECK(ranged(with_float_layers(g, {})) == "images c1 c2 c3 c4");
  CHECK(ranged(with_float_layers(g, nodes(g, {"c2", "c3"}))) == "images c3 c4");
  CHECK(ranged(with_float_layers(g, nodes(g, {"c1"}))) == "images c1 c2 c3 c4");
  CHECK(ranged(with_float_layers(g, nodes(g, {"cls"}))) == "images c1 c2 c3 c4");  // reg reads c4
  CHECK(ranged(with_float_layers(g, nodes(g, {"cls", "reg"}))) == "images c1 c2 c3");
  CHECK(ranged(with_float_layers(g, quantizable_layers(g))) == "images");
  // an earlier choice does not linger
  const deploy::Graph earlier = with_float_layers(g, nodes(g, {"c4"}));
  CHECK(ranged(earlier) == "images c1 c2 c4");

  const deploy::Graph m = test::calibrated(test::mixed_graph());
  // one group: stem, joined, pooled, up, wide; another: left, right, sum, which act alone reads
  CHECK(ranged(with_float_layers(m, nodes(m, {"right"}))) ==
        "images stem body joined pooled down up wide act last");
  CHECK(ranged(with_float_layers(m, nodes(m, {"up"}))) ==
        "images stem body joined pooled up wide left right sum act last");
  CHECK(ranged(with_float_layers(m, nodes(m, {"left", "right", "body", "down"}))) ==
        "images body down act last");
  CHECK(ranged(with_float_layers(m, nodes(m, {"last"}))) ==
        "images stem body joined pooled down up wide left right sum last");
}

TEST_CASE("between float layers nothing is rounded") {
  const deploy::Graph g = test::calibrated(test::chain_graph());
  const Tensor images = test::noise_images(1, 5);
  const deploy::EngineConfig int8{1, 16, 16, deploy::Precision::kInt8};
  // everything in float: the float network
  const Tensor exact = deploy::Engine(g, {1, 16, 16}).run(images);
  deploy::Engine all_float(with_float_layers(g, quantizable_layers(g)), int8);
  CHECK(test::relative_difference(all_float.run(images), exact) < 1e-6);

  // c2 and c3 in float: c3's result is the float convolutions of c1's, rounded once
  const deploy::Graph partial = with_float_layers(g, nodes(g, {"c2", "c3"}));
  Tensor c1, c3;
  std::vector<std::string> integers;
  deploy::Engine(partial, int8).run(images, [&](const deploy::TensorView& v) {
    if (v.quantized) integers.push_back(v.info->name);
    if (v.info->name == "c1") c1 = v.values();
    if (v.info->name == "c3") c3 = v.values();
  });
  CHECK(integers == Names{"images", "c3", "c4"});
  const auto conv = [&](const Tensor& x, const std::string& name) {
    const deploy::Node& n = *g.find_node(name);
    Tensor y({1, 8, 8, 8});
    for (int64_t h = 0; h < 8; ++h)
      for (int64_t w = 0; w < 8; ++w)
        for (int64_t o = 0; o < 8; ++o) {
          double sum = n.bias.f32()[o];
          for (int64_t i = 0; i < 3; ++i)
            for (int64_t j = 0; j < 3; ++j)
              for (int64_t c = 0; c < 8; ++c) {
                const int64_t r = h + i - 1, s = w + j - 1;
                if (r < 0 || s < 0 || r >= 8 || s >= 8) continue;
                sum += static_cast<double>(n.weight.f32()[((o * 3 + i) * 3 + j) * 8 + c]) *
                       x.f32()[(r * 8 + s) * 8 + c];
              }
          y.f32()[(h * 8 + w) * 8 + o] = static_cast<float>(std::max(sum, 0.0));
        }
    return y;
  };
  const Tensor expected = conv(conv(c1, "c2"), "c3");
  const float half_step = 0.5f * tensor(partial, "c3").scale();
  const float top = tensor(partial, "c3").amax;
  double worst = 0;
  for (int64_t i = 0; i < expected.numel(); ++i)
    if (expected.f32()[i] < top)
      worst = std::max(worst, std::abs(static_cast<double>(expected.f32()[i]) - c3.f32()[i]));
  CHECK(worst <= half_step * 1.001);
  CHECK(worst > half_step * 0.5);
}

TEST_CASE("engine, simulation and file agree on every set of float layers") {
  const deploy::Graph g = test::calibrated(test::mixed_graph());
  const std::vector<int> layers = quantizable_layers(g);
  const Tensor images = test::noise_images(2, 6);
  const deploy::EngineConfig config{2, 16, 16, deploy::Precision::kInt8};
  const test::TemporaryFolder folder;
  Rng rng(4);
  int exact = 0, tensors = 0;
  for (int trial = 0; trial < 24; ++trial) {
    std::vector<int> chosen;
    for (const int l : layers)
      if (rng.below(100) < 40) chosen.push_back(l);
    if (trial == 22) chosen = layers;
    if (trial == 23) chosen = nodes(g, {"stem"});
    CAPTURE(trial, chosen);
    const deploy::Graph partial = with_float_layers(g, chosen);
    CHECK(deploy::count_requantizations(partial) == 0);
    deploy::Engine engine(partial, config);
    deploy::Engine simulation = deploy::make_simulation(partial, config);
    for (const auto& d : deploy::compare_engines(engine, simulation, images)) {
      CAPTURE(d.tensor, d.max_steps, d.differing);
      // "left" has an exponential, which the simulation may round another way: a step now and then
      CHECK(d.max_steps <= 1);
      if (d.max_steps > 0) CHECK(d.differing * 50 <= d.values);
      CHECK(d.max_float < 0.005);
      exact += d.max_steps == 0 && d.max_float < 1e-5;
      ++tensors;
    }
    if (trial % 4 != 0 && trial != 23) continue;
    deploy::save_deploy(folder / "p.safetensors", partial);
    const deploy::Graph back = deploy::load_deploy(folder / "p.safetensors");
    CHECK(ranged(back) == ranged(partial));
    CHECK(test::max_difference(deploy::Engine(back, config).run(images), engine.run(images)) == 0);
    size_t in_float = 0;
    for (const auto& s : deploy::summarize(back, 16, 16).nodes) in_float += s.precision == "fp32";
    CHECK(in_float == chosen.size());
  }
  CAPTURE(exact, tensors);
  CHECK(exact > tensors * 8 / 10);
}

TEST_CASE("layers by name and by pattern") {
  const deploy::Graph g = test::calibrated(test::mixed_graph());
  CHECK(find_layers(g, {"right", "left", "left"}) == nodes(g, {"left", "right"}));
  CHECK(find_layers(g, {"*"}) == quantizable_layers(g));
  CHECK(find_layers(g, {"?o*", "up"}) == nodes(g, {"body", "joined", "down", "up"}));
  CHECK(find_layers(g, {}).empty());
  CHECK(test::error_of([&] {
          find_layers(g, {"up", "boddy"});
        }) == "no layer 'boddy'; nearest is 'body'");
  CHECK(test::error_of([&] { find_layers(g, {"pooled"}); }).starts_with("no layer 'pooled'"));
  // the same, told before there are ranges
  const deploy::Graph plain = test::mixed_graph();
  for (const char* name : {"right", "?o*", "up", "cls"}) check_layers(plain, {name});
  for (const char* name : {"boddy", "pooled", "images"}) {
    const std::string error = test::error_of([&] { find_layers(g, {name}); });
    CHECK(error.starts_with("no layer '"));
    CHECK(test::error_of([&] { check_layers(plain, {"up", name}); }) == error);
    CHECK(test::error_of([&] { check_layers(g, {"up", name}); }) == error);
  }

  CHECK(matches_pattern("a*b*c", "a.b.b.c"));
  CHECK(matches_pattern("*", ""));
  CHECK(matches_pattern("a**", "a"));
  CHECK_FALSE(matches_pattern("a*b", "a.b.c"));
  CHECK_FALSE(matches_pattern("?", ""));
  CHECK_FALSE(matches_pattern("", "a"));
  CHECK_FALSE(matches_pattern("a.b", "a.bc"));
}

TEST_CASE("the predicted time counts each border") {
  Toy toy({0, 0, 0, 0, 0, 0}, {10, 20, 30, 40, 50, 60}, 0.5);
  const auto ms = [&](const Names& names) {
    return toy.ms(with_float_layers(toy.graph, nodes(toy.graph, names)));
  };
  CHECK(ms({}) == Approx(6));
  CHECK(ms({"c2"}) == Approx(6 + 20 + 0.5));        // c1 writes f32; c2's result is converted
  CHECK(ms({"c2", "c3"}) == Approx(6 + 50 + 0.5));  // one border
  CHECK(ms({"c2", "c4"}) == Approx(6 + 60 + 1.0));
  // reads the image (3 channels of 16 x 16), and writes for an int8 layer
  CHECK(ms({"c1"}) == Approx(6 + 10 + 0.5 + 0.5 * 768 / 512));
  CHECK(ms({"cls"}) == Approx(6 + 50 + 0.5));  // reads integers that reg needs
  CHECK(ms({"cls", "reg"}) == Approx(6 + 110));
}

TEST_CASE("the path follows noise per millisecond, layers without cost first") {
  // c2 and c4 first; c3 between them then saves a conversion of 2 ms and costs 1
  const Toy toy({1e-9, 10, 0.1, 10, 1, 1e-9}, {1, 1, 1, 1, 1, 1}, 2);
  const auto path = float_path(toy.graph, toy.sensitivity, toy.measures, {});
  REQUIRE(path.size() == 7);
  CHECK(path[0].layers.empty());
  CHECK(path[2].layers == nodes(toy.graph, {"c2", "c4"}));
  CHECK(path[3].layers == nodes(toy.graph, {"c2", "c3", "c4"}));
  CHECK(path[3].predicted_ms < path[2].predicted_ms);
  CHECK(path[6].layers == toy.layers);
  CHECK(path[6].noise == 0);
  CHECK(path[2].noise == Approx(1.1).epsilon(1e-6));
  const auto forced =
      float_path(toy.graph, toy.sensitivity, toy.measures, nodes(toy.graph, {"reg"}));
  CHECK(forced.size() == 6);
  CHECK(forced[0].layers == nodes(toy.graph, {"reg"}));
}

TEST_CASE("for a drop, the chosen set meets it and needs all of its layers") {
  const double target = GENERATE(0.0, 0.055, 0.11, 0.21, 0.36, 0.61, 0.9);
  const Toy toy({0.3, 0.02, 0.1, 0.2, 0.05, 0.07}, {3, 0.1, 1, 1, 0.5, 2});
  PartialConfig config;
  config.max_drop = target;
  config.trials = 6;
  config.extra_points = 0;
  const PartialResult r = toy.choose(config);
  CAPTURE(target, toy.names(r));
  const double slack = 1e-12;
  CHECK(toy.lost(r.graph) <= target + slack);
  for (const int l : r.curve[r.chosen].layers) {
    std::vector<int> fewer = r.curve[r.chosen].layers;
    std::erase(fewer, l);
    CHECK(toy.lost(with_float_layers(toy.graph, fewer)) > target + slack);
  }
  CHECK(r.evaluations == toy.evaluations);
  CHECK(r.evaluations <= 2 + 3 + 6);
  CHECK(r.float_accuracy == 1);
  CHECK(*r.curve[r.chosen].accuracy == Approx(1 - toy.lost(r.graph)));
  if (target == 0.9) CHECK(r.curve[r.chosen].layers.empty());
  if (target == 0.0) CHECK(r.curve[r.chosen].layers == toy.layers);
}

TEST_CASE("for a drop with equal costs, as few layers as any set needs") {
  const Toy toy({0.3, 0.02, 0.1, 0.2, 0.05, 0.07}, {1, 1, 1, 1, 1, 1});
  for (const double target : {0.025, 0.11, 0.255, 0.5}) {
    PartialConfig config;
    config.max_drop = target;
    const PartialResult r = toy.choose(config);
    size_t fewest = 6;
    for (int set = 0; set < 64; ++set) {
      std::vector<int> layers;
      for (size_t i = 0; i < 6; ++i)
        if (set >> i & 1) layers.push_back(toy.layers[i]);
      if (toy.lost(with_float_layers(toy.graph, layers)) <= target)
        fewest = std::min(fewest, layers.size());
    }
    CAPTURE(target, toy.names(r));
    CHECK(r.curve[r.chosen].layers.size() == fewest);
  }
}

TEST_CASE("for a speed, all layers that fit are in float and the measured speed counts") {
  const double honesty = GENERATE(1.0, 0.8, 1.25);  // measured / predicted speed
  Toy toy({0.3, 0.02, 0.1, 0.2, 0.05, 0.07}, {3, 0.1, 1, 1, 0.5, 2});
  int measured = 0;
  toy.measures.speedup = [&](const deploy::Graph& g) {
    ++measured;
    return honesty * toy.float_ms() / toy.ms(g);
  };
  PartialConfig config;
  config.min_speedup = 1.5;  // of 13.6 ms: 9.07 ms, 6 of which everything takes in int8
  config.extra_points = 0;
  const PartialResult r = toy.choose(config);
  CAPTURE(honesty, toy.names(r));
  CHECK(*r.curve[r.chosen].speedup >= 1.5);
  const double budget = 13.6 / 1.5 * honesty;
  CHECK(toy.ms(r.graph) <= budget);
  for (const int l : toy.layers) {
    std::vector<int> more = r.curve[r.chosen].layers;
    if (std::ranges::find(more, l) != more.end()) continue;
    more.push_back(l);
    CHECK(toy.ms(with_float_layers(toy.graph, more)) > budget);
  }
  CHECK(measured <= 6);
  if (honesty == 1.0) CHECK(toy.names(r) == Names{"c2", "c3", "c4", "cls"});

  config.min_speedup = 3;
  CHECK(test::error_of([&] {
          toy.choose(config);
        }).starts_with("a speed-up of 3 is out of reach: with every layer in int8 the engine is "));
  config.min_speedup = 1;
  CHECK(toy.choose(config).curve[0].layers.empty());
}

TEST_CASE("a measured set that is better in everything takes the chosen one's place") {
  Toy toy({0.3, 0.02, 0.1, 0.2, 0.05, 0.07}, {3, 0.1, 1, 1, 0.5, 2});
  PartialConfig config;
  config.max_drop = 0.11;
  config.extra_points = 3;
  const PartialResult plain = toy.choose(config);
  // Another set on the path is both the most accurate and the fastest after all.
  const auto winner = float_path(toy.graph, toy.sensitivity, toy.measures, {})[1].layers;
  REQUIRE(plain.curve[plain.chosen].layers != winner);
  const auto accuracy = toy.measures.accuracy;
  const auto speedup = toy.measures.speedup;
  const auto is_winner = [&](const deploy::Graph& g) {
    return toy.ms(g) == toy.ms(with_float_layers(toy.graph, winner));
  };
  toy.measures.accuracy = [&](const deploy::Graph& g) { return is_winner(g) ? 2 : accuracy(g); };
  toy.measures.speedup = [&](const deploy::Graph& g) { return is_winner(g) ? 9 : speedup(g); };
  const PartialResult r = toy.choose(config);
  CHECK(r.curve[r.chosen].layers == winner);
  CHECK(toy.ms(r.graph) == toy.ms(with_float_layers(toy.graph, winner)));
}

TEST_CASE("named layers are in float for any target") {
  const Toy toy({0.3, 0.02, 0.1, 0.2, 0.05, 0.07}, {3, 0.1, 1, 1, 0.5, 2});
  PartialConfig config;
  config.always = nodes(toy.graph, {"reg", "c2"});
  config.extra_points = 2;
  CHECK(toy.names(toy.choose(config)) == Names{"c2", "reg"});
  const PartialResult r = toy.choose(config);
  for (const PartialPoint& p : r.curve) {
    CHECK(p.accuracy.has_value());
    CHECK(p.speedup.has_value());
  }
  REQUIRE(r.curve.size() == 4);
  CHECK(r.curve.back().layers == toy.layers);
  config.max_drop = 0.2;
  const Names names = toy.names(toy.choose(config));
  CHECK(std::ranges::find(names, "reg") != names.end());
  CHECK(std::ranges::find(names, "c2") != names.end());
  config.always = {0};
  CHECK(test::error_of([&] { toy.choose(config); }) == "partial: node 0 cannot be in int8");
  config.min_speedup = 2;
  CHECK(test::error_of([&] { toy.choose(config); }) ==
        "partial: give either a drop or a speed-up as the target, not both");
}

TEST_CASE("times and a choice of a real engine") {
  const deploy::Graph g = test::calibrated(test::mixed_graph());
  const Tensor images = test::noise_images(2, 3);
  PartialMeasures measures;
  measures.times = measure_layer_times(g, images, 3);
  measures.batch = 2;
  measures.height = measures.width = 16;
  for (const int l : quantizable_layers(g)) {
    CHECK(measures.times.fp32[static_cast<size_t>(l)] > 0);
    CHECK(measures.times.int8[static_cast<size_t>(l)] > 0);
  }
  CHECK(measures.times.to_float > 0);
  CHECK(measures.times.to_int8 > 0);
  CHECK(measures.times.fp32[static_cast<size_t>(test::node_of(g, "pooled"))] > 0);
  measures.speedup = [&](const deploy::Graph& p) { return measure_speedup(p, images, 3); };
  const Tensor exact = deploy::Engine(g, {2, 16, 16}).run(images);
  measures.accuracy = [&](const deploy::Graph& p) {
    return 1 - test::relative_difference(
                   deploy::Engine(p, {2, 16, 16, deploy::Precision::kInt8}).run(images), exact);
  };
  PartialConfig config;
  config.max_drop = 1e-6;  // float itself
  const PartialResult r = choose_float_layers(g, rank_layers(g, images, {}), measures, config);
  CHECK(*r.curve[r.chosen].accuracy >= r.float_accuracy - 1e-6);
  CHECK(r.graph.quantized());
}
