// SPDX-License-Identifier: Apache-2.0
// Tracing, fusing and the two engines, on a small network of every node kind.
#include <cmath>
#include <map>

#include "deploy/engine/engine.h"
#include "deploy/engine/simulate.h"
#include "deploy/graph/file.h"
#include "deploy/graph/ranges.h"
#include "deploy/networks.h"

using namespace sextant;
using namespace sextant::deploy;
using test::MixedNet;

namespace {

Tensor forward(const MixedNet& net, const Tensor& images) {
  const NoGrad no_grad;
  return net.predict(Variable(test::as_float_images(images))).data();
}

std::map<std::string, int> kinds(const Graph& g) {
  std::map<std::string, int> count;
  for (const Node& n : g.nodes) ++count[std::string(name_of(n.kind()))];
  return count;
}

}  // namespace

TEST_CASE("tracing names nodes by their modules and fusing folds what it can") {
  const MixedNet net(Activation::kReLU, 1);
  const Graph raw = test::traced(net, {1, 32, 48, 3});
  auto before = kinds(raw);
  CHECK(before["rep_bn_act"] > 8);
  CHECK(raw.find_node("stem.rbr_dense.conv") != nullptr);

  const Graph g = fuse(raw);
  auto after = kinds(g);
  CHECK(after["rep_bn_act"] == 0);
  CHECK(after["add"] == 1);         // the one whose operands are read elsewhere
  CHECK(after["activation"] == 1);  // likewise
  CHECK(after["deconv"] == 1);
  CHECK(after["max_pool"] == 4);
  CHECK(after["concat"] == 3);
  const Node* stem = g.find_node("stem.rbr_reparam");
  REQUIRE(stem);
  CHECK(stem->weight.shape() == Shape{16, 3, 3, 3});
  CHECK(stem->as<ConvAttributes>().stride == 2);
  CHECK(stem->activation() == Activation::kReLU);
  REQUIRE(g.find_node("c1.block.conv"));
  CHECK(g.find_node("c1.block.conv")->as<ConvAttributes>().residual);
  CHECK_FALSE(g.find_node("c1.block.conv")->as<ConvAttributes>().residual_before_activation);
  CHECK(g.find_node("c1.block.conv")->as<ConvAttributes>().residual_scale == 0.75f);
  REQUIRE(g.find_node("c2.block.conv"));
  CHECK(g.find_node("c2.block.conv")->as<ConvAttributes>().residual_before_activation);
  CHECK(g.find_node("detect.cls_preds.0") != nullptr);
}

TEST_CASE("the fp32 engine computes what the model computes, at any size and batch") {
  const MixedNet net(GENERATE(Activation::kReLU, Activation::kLeakyReLU, Activation::kSiLU,
                              Activation::kHardswish, Activation::kMish),
                     2);
  const Graph g = fuse(test::traced(net, {1, 32, 48, 3}));
  for (const Shape& size : {Shape{1, 32, 48, 3}, Shape{2, 16, 40, 3}}) {
    Engine engine(g, {.batch = size[0], .height = size[1], .width = size[2]});
    for (const uint64_t seed : {3u, 4u}) {  // twice: nothing may stay behind in the arena
      const Tensor images = test::random_images(size, seed);
      const double apart = test::relative_difference(engine.run(images), forward(net, images));
      CAPTURE(apart);
      CHECK(apart < 1e-5);
    }
    CHECK(engine.stats().arena_bytes < engine.stats().unplanned_bytes);
    CHECK(engine.stats().concats_in_place == 10);
    CHECK(engine.stats().concat_copies == 0);
  }
}

TEST_CASE("an observer sees every tensor of every node, before in-place operations change it") {
  const MixedNet net(Activation::kReLU, 5);
  const Tensor images = test::random_images({1, 32, 32, 3}, 6);
  const Graph raw = test::traced(net, {1, 32, 32, 3});
  const Graph g = fuse(raw);
  // the same tensors from recorded operations
  const NoGrad no_grad;
  const Variable x(test::as_float_images(images));
  const trace::Recorder recorder;
  const Variable y = net.predict(x);
  std::map<std::string, Tensor> expected;
  const Graph again = graph_from_ops(recorder.ops(), x, y, test::named(net));
  int matched = 0;
  Engine engine(g, {1, 32, 32});
  size_t seen = 0;
  engine.run(images, [&](const TensorView& v) {
    ++seen;
    const Tensor values = v.values();
    for (const trace::Op& op : recorder.ops()) {
      if (!(op.output.shape() == v.shape)) continue;
      if (test::relative_difference(values, op.output.data()) < 1e-5) {
        ++matched;
        break;
      }
    }
  });
  CHECK(seen == g.nodes.size());
  CHECK(again.nodes.size() == raw.nodes.size());
  CHECK(matched == static_cast<int>(g.nodes.size()) - 1);  // all but the image itself
}

TEST_CASE("ranges: one scale across concat, add, residual and pools") {
  const MixedNet net(Activation::kReLU, 7);
  const Graph fused = fuse(test::traced(net, {1, 32, 32, 3}));
  const Graph g = test::with_ranges(fused, test::random_images({1, 32, 32, 3}, 8));
  CHECK(count_requantizations(g) == 0);
  const auto info = [&](const std::string& name) {
    REQUIRE(g.find_tensor(name) >= 0);
    return g.tensors[static_cast<size_t>(g.find_tensor(name))];
  };
  CHECK(info("images").is_unsigned);
  CHECK(info("images").scale() == 1.0f / 255.0f);
  CHECK(info("stem.rbr_reparam").is_unsigned);
  CHECK(info("down.block.conv").is_unsigned == false);  // shares a concat with the deconv's result
  CHECK(info("down.block.conv").group == info("up.upsample_transpose").group);
  CHECK(info("block.rbr_reparam").group == info("c1.block.conv").group);
  CHECK_FALSE(info("detect.cls_preds.0").has_range());
  CHECK_FALSE(info("detect.reg_preds.1").has_range());
  for (const Node& n : g.nodes) {
    if (!n.has_weight()) continue;
    CAPTURE(n.name);
    REQUIRE(n.weight_scale.size() == static_cast<size_t>(n.weight.dim(0)));
    const auto q = quantize_weight(n.weight, n.weight_scale);
    const int64_t inner = n.weight.numel() / n.weight.dim(0);
    for (int64_t o = 0; o < n.weight.dim(0); ++o) {
      int largest = 0;
      for (int64_t i = 0; i < inner; ++i)
        largest = std::max(largest, std::abs(int{q[static_cast<size_t>(o * inner + i)]}));
      CHECK(largest == 127);
    }
  }
}

TEST_CASE("int8 engine and simulation agree within one step at every tensor") {
  const Activation act = GENERATE(Activation::kReLU, Activation::kLeakyReLU, Activation::kSiLU,
                                  Activation::kHardswish, Activation::kMish);
  const float shrink = GENERATE(1.0f, 0.6f);  // the second clips
  CAPTURE(name_of(act), shrink);
  const MixedNet net(act, 9);
  const Tensor images = test::random_images({2, 16, 24, 3}, 10);
  const Graph g = test::with_ranges(fuse(test::traced(net, {1, 32, 48, 3})), images, shrink);
  const EngineConfig config{2, 16, 24, Precision::kInt8};
  Engine engine(g, config);
  Engine simulation = make_simulation(g, config);
  CHECK(engine.stats().requantizations == 0);
  int64_t differing = 0, values = 0, bytes = 0;
  for (const StepDifference& d : compare_engines(engine, simulation, images)) {
    CAPTURE(d.tensor, d.differing, d.values);
    CHECK(d.max_steps <= 1);
    CHECK(d.max_float < (act == Activation::kReLU ? 1e-6 : 0.02));
    differing += d.differing;
    values += d.values;
  }
  engine.run(images, [&](const TensorView& v) { bytes += v.dtype != DType::kF32; });
  // all but 4 head outputs and decode
  CHECK(bytes == static_cast<int64_t>(g.nodes.size()) - 5);
  // a comparison that sees a difference: one channel's bias moved by two steps
  Graph moved = g;
  for (Node& n : moved.nodes)
    if (n.name == "stem.rbr_reparam") {
      n.bias = n.bias.clone();
      n.bias.f32()[3] += 2 * g.tensors[static_cast<size_t>(n.output)].scale();
    }
  Engine other = make_simulation(moved, config);
  CHECK(compare_engines(engine, other, images)[1].max_steps == 2);
  // exact where the epilogue has no exponential
  if (act == Activation::kReLU) CHECK(differing == 0);
}

namespace {

// The same function without gains: a depthwise convolution behind each, between activation and
// residual.
Graph with_gains_as_nodes(const Graph& g) {
  Graph out = g;
  out.nodes.clear();
  for (Node node : g.nodes) {
    if (!node.gain.defined()) {
      out.nodes.push_back(node);
      continue;
    }
    const auto tensor = [&](const char* what) {
      TensorInfo info = g.tensors[static_cast<size_t>(node.output)];
      info.name += what;
      out.tensors.push_back(info);
      return static_cast<int>(out.tensors.size()) - 1;
    };
    Node scaled;
    scaled.name = node.name + " gains";
    scaled.attributes = ConvAttributes{.groups = node.gain.numel()};
    scaled.weight = node.gain.clone().reshape({node.gain.numel(), 1, 1, 1});
    scaled.output = node.output;
    const bool after = node.is<ConvAttributes>() && node.as<ConvAttributes>().residual_place() ==
                                                        ResidualPlace::kAfterActivation;
    if (after) {
      auto& a = scaled.as<ConvAttributes>();
      a.residual = true;
      a.residual_scale = node.as<ConvAttributes>().residual_scale;
      node.as<ConvAttributes>().residual = false;
      node.as<ConvAttributes>().residual_scale = 1.0f;
    }
    node.output = tensor(" activated");
    scaled.inputs = {node.output};
    if (after) {
      scaled.inputs.push_back(node.inputs[1]);
      node.inputs.pop_back();
    }
    node.gain = Tensor();
    out.nodes.push_back(node);
    out.nodes.push_back(scaled);
  }
  return out;
}

}  // namespace

TEST_CASE("gains behind activations: float, int8, simulated and integer engines") {
  const Activation act = GENERATE(Activation::kSiLU, Activation::kHardswish);
  CAPTURE(name_of(act));
  const Tensor images = test::random_images({2, 32, 48, 3}, 71);
  const Graph fused = test::with_gains(fuse(test::traced(MixedNet(act, 9), {1, 32, 48, 3})), 50);
  const auto gains =
      std::ranges::count_if(fused.nodes, [](const Node& n) { return n.gain.defined(); });
  CHECK(gains > 8);
  const Graph nodes = with_gains_as_nodes(fused);
  validate(nodes);
  const EngineConfig size{2, 32, 48};
  CHECK(test::relative_difference(Engine(fused, size).run(images),
                                  Engine(nodes, size).run(images)) < 1e-5);

  const Graph g = test::with_ranges(fused, images, 0.8f);
  const EngineConfig config{2, 32, 48, Precision::kInt8};
  Engine engine(g, config);
  Engine simulation = make_simulation(g, config);
  for (const StepDifference& d : compare_engines(engine, simulation, images)) {
    CAPTURE(d.tensor);
    CHECK(d.max_steps <= (act == Activation::kHardswish ? 0 : 2));
    CHECK(d.differing * 20 <= d.values);
  }
  Engine integer(g, {2, 32, 48, Precision::kInteger});
  for (const StepDifference& d : compare_layers(integer, engine, images)) {
    CAPTURE(d.tensor, d.differing, d.values);
    CHECK(d.max_steps <= 1);
    if (!d.floats) CHECK(d.differing * 50 <= d.values);
  }
  const test::TemporaryFolder folder;
  save_deploy(folder / "g.safetensors", g);
  const Graph back = load_deploy(folder / "g.safetensors");
  CHECK(test::max_difference(Engine(back, config).run(images), Engine(g, config).run(images)) == 0);
}

TEST_CASE("integer sums do not saturate on any machine") {
  // one 3x3 convolution of a white image by weights of 127 steps: pairs of products pass 2^15
  Graph g;
  Node image, conv;
  image.name = "images";
  image.output = 0;
  conv.name = "conv";
  conv.attributes = ConvAttributes{.padding = 1};
  conv.inputs = {0};
  conv.output = 1;
  conv.weight = Tensor({16, 3, 3, 3});
  std::fill_n(conv.weight.f32(), conv.weight.numel(), 0.5f);
  g.nodes = {image, conv};
  g.tensors = {{.name = "images", .shape = {1, 8, 8, 3}}, {.name = "conv", .shape = {1, 8, 8, 16}}};
  g.input = 0;
  g.output = 1;
  unify_ranges(g);
  assign_ranges(g, {1.0f, 16.0f});
  set_weight_scales(g);
  Tensor white({1, 8, 8, 3}, DType::kU8);
  std::fill_n(white.data<uint8_t>(), white.numel(), uint8_t{255});
  const Tensor y = Engine(g, {1, 8, 8, Precision::kInt8}).run(white);
  const float step = 16.0f / 127;
  CHECK(y.f32()[0] == Approx(std::nearbyint(12 * 0.5f / step) * step));             // a corner
  CHECK(y.f32()[(8 + 1) * 16] == Approx(std::nearbyint(27 * 0.5f / step) * step));  // inside
}

TEST_CASE("the simulation is quantize-dequantize around the float network") {
  // one convolution, by hand in double
  Graph g;
  g.tensors = {{"images", {1, 6, 6, 3}}, {"conv", {1, 6, 6, 4}}};
  g.input = 0;
  g.output = 1;
  Node input;
  input.name = "images";
  input.output = 0;
  Node conv;
  conv.name = "conv";
  conv.attributes = ConvAttributes{.padding = 1, .activation = Activation::kReLU};
  conv.inputs = {0};
  conv.output = 1;
  conv.weight = test::random_tensor({4, 3, 3, 3}, 11);
  conv.bias = test::random_tensor({4}, 12);
  g.nodes = {input, conv};
  unify_ranges(g);
  assign_ranges(g, {1.0f, 2.5f});
  set_weight_scales(g);
  const Tensor images = test::random_images({1, 6, 6, 3}, 13);
  Engine simulation = make_simulation(g, {1, 6, 6});
  Engine engine(g, {1, 6, 6, Precision::kInt8});
  const Tensor y = simulation.run(images);
  CHECK(test::max_difference(engine.run(images), y) == 0);
  const Node& n = g.nodes[1];
  for (int64_t h = 0; h < 6; ++h)
    for (int64_t w = 0; w < 6; ++w)
      for (int64_t o = 0; o < 4; ++o) {
        double sum = n.bias.f32()[o];
        const double s = n.weight_scale[static_cast<size_t>(o)];
        for (int64_t i = 0; i < 9; ++i) {
          const int64_t ih = h + i / 3 - 1, iw = w + i % 3 - 1;
          if (ih < 0 || iw < 0 || ih > 5 || iw > 5) continue;
          for (int64_t c = 0; c < 3; ++c)
            sum += images.data<uint8_t>()[(ih * 6 + iw) * 3 + c] / 255.0 * s *
                   std::nearbyint(n.weight.f32()[(o * 9 + i) * 3 + c] / s);
        }
        const double step = 2.5 / 255;
        const double q = std::min(255.0, std::max(0.0, sum / step));
        const double got = y.f32()[(h * 6 + w) * 4 + o] / step;
        CHECK(std::abs(got - std::round(got)) < 1e-3);
        CHECK(std::abs(got - q) < 0.5 + 1e-3);
      }
}

TEST_CASE("int8 stays close to fp32, with conversions around float nodes") {
  const MixedNet net(Activation::kReLU, 14);
  const Tensor images = test::random_images({1, 32, 32, 3}, 15);
  Graph g = test::with_ranges(fuse(test::traced(net, {1, 32, 32, 3})), images);
  const Tensor exact = Engine(g, {1, 32, 32}).run(images);
  const double all =
      test::relative_difference(Engine(g, {1, 32, 32, Precision::kInt8}).run(images), exact);
  CHECK(all < 0.1);
  CHECK(all > 0);
  for (Node& n : g.nodes) n.precision = Precision::kFloat32;
  Engine mixed(g, {1, 32, 32, Precision::kInt8});
  Engine simulation = make_simulation(g, {1, 32, 32});
  const double none = test::relative_difference(mixed.run(images), exact);
  CAPTURE(all, none);
  CHECK(none < 0.1);
  CHECK(none != all);
  for (const StepDifference& d : compare_engines(mixed, simulation, images)) {
    CAPTURE(d.tensor);
    CHECK(d.max_steps <= 1);
  }
}

TEST_CASE("an engine refuses graphs and sizes that it cannot run") {
  const MixedNet net(Activation::kReLU, 16);
  const Graph raw = test::traced(net, {1, 32, 32, 3});
  Graph g = fuse(raw);
  CHECK(test::error_of([&] {
          Engine(raw, {1, 32, 32});
        }).find("has not been fused") != std::string::npos);
  g.source = "model.safetensors";
  CHECK(test::error_of([&] {
          Engine(g, {1, 32, 32, Precision::kInt8});
        }) == "model.safetensors: has no activation ranges; run sextant quantize");
  CHECK(test::error_of([&] {
          Engine(g, {1, 30, 32});
        }) == "model.safetensors: image size 32x30 must be a multiple of 4");
  Engine engine(g, {1, 32, 32});
  CHECK(test::error_of([&] {
          engine.run(Tensor::zeros({1, 32, 32, 3}));
        }) == "engine: images F32 [1,32,32,3], expected U8 [1,32,32,3]");
  CHECK(test::error_of([&] {
          engine.run(Tensor::zeros({1, 32, 36, 3}, DType::kU8));
        }).find("[1,32,36,3]") != std::string::npos);
}
