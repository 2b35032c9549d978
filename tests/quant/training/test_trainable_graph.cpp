// SPDX-License-Identifier: Apache-2.0
// The trainable graph against the engines that run its result.
#include <cmath>

#include "deploy/engine/engine.h"
#include "deploy/engine/simulate.h"
#include "deploy/graph/file.h"
#include "deploy/networks.h"
#include "kernels/conv.h"
#include "layers/distill.h"
#include "quant/training/distillation_teacher.h"
#include "quant/training/trainable_graph.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::quant;
using deploy::Graph;
using deploy::Precision;

namespace {

Graph mixed_graph(Activation act, uint64_t seed) {
  return deploy::fuse(test::traced(test::MixedNet(act, seed), {1, 32, 32, 3}));
}

struct Agreement {
  int64_t values = 0, differing = 0, steps = 0, fractions = 0;
  double real = 0;  // of the tensors held as f32, relative
};

// Every tensor of the simulation of `trainable`'s graph against its forward pass.
Agreement compare(const TrainableGraph& trainable, const Tensor& images) {
  const Graph graph = trainable.graph();
  std::vector<Tensor> expected(graph.tensors.size());
  std::vector<bool> integer(graph.tensors.size());
  deploy::Engine simulation =
      deploy::make_simulation(graph, {images.dim(0), images.dim(1), images.dim(2)});
  simulation.run(images, [&](const deploy::TensorView& v) {
    integer[static_cast<size_t>(v.id)] = v.quantized;
    expected[static_cast<size_t>(v.id)] = v.quantized ? v.integers() : v.values();
  });
  Agreement a;
  const NoGrad guard;
  trainable.forward(images, [&](int tensor, const Variable& y) {
    const Tensor& e = expected[static_cast<size_t>(tensor)];
    REQUIRE(e.shape() == y.shape());
    if (!integer[static_cast<size_t>(tensor)]) {
      a.real = std::max(a.real, test::relative_difference(y.data(), e));
      return;
    }
    for (int64_t i = 0; i < e.numel(); ++i) {
      const float q = y.f32()[i];
      a.fractions += q != std::nearbyint(q);
      const auto apart =
          static_cast<int64_t>(std::abs(q - static_cast<float>(e.data<int32_t>()[i])));
      a.steps = std::max(a.steps, apart);
      a.differing += apart != 0;
    }
    a.values += e.numel();
  });
  CHECK(a.fractions == 0);
  return a;
}

}  // namespace

TEST_CASE("the trainable graph computes what the int8 engine's simulation computes") {
  const Activation act = GENERATE(Activation::kReLU, Activation::kSiLU, Activation::kHardswish);
  const bool some_float = GENERATE(false, true);
  CAPTURE(name_of(act), some_float);
  const kernels::cpu::ExactSums exact;  // of integers, as the engine's
  const Tensor images = test::random_images({2, 32, 64, 3}, 5);
  const bool gains = GENERATE(false, true);
  const Graph mixed = mixed_graph(act, 11);
  Graph g = test::with_ranges(gains ? test::with_gains(mixed, 3) : mixed, images, 0.7f);
  if (some_float)
    for (deploy::Node& node : g.nodes)
      if (node.name.starts_with("up") || node.name.starts_with("c1") ||
          node.name.starts_with("block"))
        node.precision = Precision::kFloat32;
  const Agreement a = compare(TrainableGraph(g), images);
  CHECK(a.values > 100000);
  if (some_float) {
    // Real convolutions on either side round differently: a level apart here and there.
    CHECK(a.steps <= 2);
    CHECK(a.differing * 50 <= a.values);
    CHECK(a.real < 0.02);
  } else {
    CHECK(a.steps == 0);
    CHECK(a.real < 1e-5);
  }
}

TEST_CASE("YOLOv6-N as a trainable graph: simulation, float engine, neck outputs") {
  Yolov6 model(Yolov6Config{}, 3);
  test::randomize(model, 9);
  model.train(false);
  const Graph fused = deploy::fuse(test::traced(model, {1, 64, 64, 3}));
  const Tensor images = test::random_images({1, 96, 64, 3}, 6);
  const Agreement a = compare(TrainableGraph(test::with_ranges(fused, images, 0.8f)), images);
  CHECK(a.values > 200000);
  CHECK(a.steps <= 1);
  CHECK(a.differing * 1000 <= a.values);
  CHECK(a.real < 1e-3);

  const std::vector<int> necks = neck_outputs(fused);
  std::vector<std::string> names;
  for (const int t : necks) names.push_back(fused.tensors[static_cast<size_t>(t)].name);
  CHECK(names == std::vector<std::string>{"neck.Rep_p3.block.2.rbr_reparam",
                                          "neck.Rep_n3.block.2.rbr_reparam",
                                          "neck.Rep_n4.block.2.rbr_reparam"});
  // Without ranges it is the float model, and what the teacher gives is the model's.
  const NoGrad guard;
  const auto features = model.forward_features(Variable(test::as_float_images(images)));
  TrainableOptions options;
  options.features = necks;
  const auto ours = TrainableGraph(fused, options).forward(images);
  const auto taught = DistillationTeacher(fused, necks).run(images);
  for (size_t l = 0; l < 3; ++l) {
    CHECK(test::relative_difference(ours.cls_logits[l].data(), features.head.cls_logits[l].data()) <
          1e-4);
    CHECK(test::relative_difference(ours.reg[l].data(), features.head.reg[l].data()) < 1e-4);
    CHECK(test::relative_difference(ours.features[l].data(), features.neck[l].data()) < 1e-4);
    CHECK(test::relative_difference(taught.cls_logits[l], features.head.cls_logits[l].data()) <
          1e-4);
    CHECK(test::relative_difference(taught.reg[l], features.head.reg[l].data()) < 1e-4);
    CHECK(test::relative_difference(taught.features[l], features.neck[l].data()) < 1e-4);
  }
}

TEST_CASE("gradients of a quantized graph are those of fake quantization on its edges") {
  // Two convolutions of one block chain, by plain functions on real numbers.
  Graph g;
  g.nodes.reserve(5);  // the pointers below stay
  const auto tensor = [&](const char* name, Shape shape) {
    g.tensors.push_back({name, shape});
    return static_cast<int>(g.tensors.size()) - 1;
  };
  const auto node = [&](const char* name, const deploy::Attributes& attributes, std::vector<int> in,
                        Shape shape) {
    deploy::Node n;
    n.name = name;
    n.attributes = attributes;
    n.inputs = std::move(in);
    n.output = tensor(name, shape);
    g.nodes.push_back(n);
    return &g.nodes.back();
  };
  node("images", deploy::InputAttributes{}, {}, {1, 8, 8, 3});
  g.input = 0;
  deploy::Node* a =
      node("a", deploy::ConvAttributes{.stride = 2, .padding = 1, .activation = Activation::kReLU},
           {0}, {1, 4, 4, 6});
  a->weight = test::random_tensor({6, 3, 3, 3}, 1);
  a->bias = test::random_tensor({6}, 2);
  node("pool", deploy::MaxPoolAttributes{.kernel = 3, .padding = 1}, {1}, {1, 4, 4, 6});
  deploy::Node* j = node("both", deploy::ConcatAttributes{}, {1, 2}, {1, 4, 4, 12});
  REQUIRE(j->output == 3);
  deploy::Node* b =
      node("b", deploy::ConvAttributes{.activation = Activation::kSiLU}, {3}, {1, 4, 4, 4});
  b->weight = test::random_tensor({4, 1, 1, 12}, 3);
  b->bias = test::random_tensor({4}, 4);
  g.output = 4;
  const Tensor images = test::random_images({2, 8, 8, 3}, 7);
  const Graph quantized = test::with_ranges(g, images, 0.6f);
  REQUIRE(quantized.tensors[4].has_range());
  TrainableGraph trainable(quantized);
  const Variable y = trainable.forward(images).result;
  const Tensor w = test::random_tensor(y.shape(), 8);
  backward({{y, w}});

  const auto leaf = [](const deploy::Node& n) {
    const Tensor t = n.weight.clone();
    for (int64_t i = 0; i < t.numel(); ++i) {
      const float s = n.weight_scale[static_cast<size_t>(i / (t.numel() / t.dim(0)))];
      t.f32()[i] = std::nearbyint(t.f32()[i] / s) * s;
    }
    return Variable(t, true);
  };
  const auto range = [&](int t) {
    const deploy::TensorInfo& info = quantized.tensors[static_cast<size_t>(t)];
    return QuantRange{Variable(Tensor::full(Shape{1}, info.amax)), info.is_unsigned};
  };
  const Variable wa = leaf(quantized.nodes[1]), wb = leaf(quantized.nodes[4]);
  const Variable ba(quantized.nodes[1].bias.clone(), true),
      bb(quantized.nodes[4].bias.clone(), true);
  const Variable t1 = fake_quant(
      relu(conv2d(Variable(test::as_float_images(images)), wa, ba, {2, 1, 1})), range(1));
  const Variable t3 = concat({t1, max_pool2d(t1, {3, 1, 1})});
  const Variable e = fake_quant(silu(conv2d(t3, wb, bb, {})), range(4));
  CHECK(test::max_difference(y.data(), e.data()) < 1e-5);
  backward({{e, w}});
  for (const auto& [name, other] :
       {std::pair{"a.weight", wa}, {"a.bias", ba}, {"b.weight", wb}, {"b.bias", bb}})
    for (const ParameterRef& parameter : trainable.parameters())
      if (parameter.name == name) {
        CAPTURE(name);
        CHECK(test::relative_difference(parameter.variable.grad(), other.grad()) < 1e-4);
      }
}

namespace {

// Steps of plain gradient descent towards the float graph's outputs; returns the mean squared
// difference of the int8 engine's result before and after.
std::pair<double, double> train_towards(TrainableGraph& student, const Graph& fused,
                                        const Tensor& images, float lr, int steps) {
  DistillationTeacher teacher(fused, neck_outputs(fused));
  const auto taught = teacher.run(images);
  const auto distance = [&] {
    const NoGrad guard;
    double sum = 0;
    int64_t n = 0;
    const auto out = student.forward(images);
    for (size_t l = 0; l < taught.cls_logits.size(); ++l)
      for (int64_t i = 0; i < taught.cls_logits[l].numel(); ++i, ++n)
        sum += std::pow(out.cls_logits[l].f32()[i] - taught.cls_logits[l].f32()[i], 2);
    return sum / static_cast<double>(n);
  };
  const double before = distance();
  for (int s = 0; s < steps; ++s) {
    const auto out = student.forward(images);
    std::vector<std::pair<Variable, Tensor>> roots;
    for (size_t l = 0; l < taught.cls_logits.size(); ++l) {
      const Tensor d = out.cls_logits[l].data().clone();
      for (int64_t i = 0; i < d.numel(); ++i)
        d.f32()[i] = (d.f32()[i] - taught.cls_logits[l].f32()[i]) / static_cast<float>(d.numel());
      roots.emplace_back(out.cls_logits[l], d);
    }
    backward(roots);
    for (const ParameterRef& p : student.parameters()) {
      if (!p.variable.grad().defined()) continue;
      for (int64_t i = 0; i < p.variable.data().numel(); ++i)
        p.variable.f32()[i] -= lr * p.variable.grad().f32()[i];
      p.variable.clear_grad();
    }
    student.update_scales();
  }
  return {before, distance()};
}

}  // namespace

TEST_CASE(
    "training a badly quantized graph brings it nearer to the float one, with every mode of "
    "scales") {
  const Activation act = GENERATE(Activation::kReLU, Activation::kSiLU);
  const bool learned = GENERATE(false, true);
  const WeightRanges weights =
      learned ? WeightRanges::kLearned : GENERATE(WeightRanges::kFrozen, WeightRanges::kFollow);
  CAPTURE(name_of(act), learned, static_cast<int>(weights));
  const Graph fused = mixed_graph(act, 12);
  const Tensor images = test::random_images({1, 32, 32, 3}, 8);
  const Graph start = test::with_ranges(fused, images, 0.35f);  // clips a lot
  TrainableOptions options;
  options.learn_activation_ranges = learned;
  options.weights = weights;
  TrainableGraph student(start, options);
  const auto [before, after] = train_towards(student, fused, images, 0.05f, 15);
  CAPTURE(before, after);
  CHECK(after < 0.7 * before);

  const Graph end = student.graph();
  bool scale_moved = false, range_moved = false, weight_moved = false;
  for (size_t n = 0; n < end.nodes.size(); ++n) {
    const deploy::Node &e = end.nodes[n], &s = start.nodes[n];
    if (!e.has_weight()) continue;
    scale_moved = scale_moved || e.weight_scale != s.weight_scale;
    weight_moved = weight_moved || test::max_difference(e.weight, s.weight) > 0;
    for (const float scale : e.weight_scale) CHECK(scale > 0);
  }
  for (size_t t = 0; t < end.tensors.size(); ++t)
    range_moved = range_moved || end.tensors[t].amax != start.tensors[t].amax;
  CHECK(weight_moved);
  CHECK(scale_moved == (weights != WeightRanges::kFrozen));
  CHECK(range_moved == learned);
  CHECK(end.tensors[static_cast<size_t>(end.input)].amax == 1.0f);

  // What is written is what was trained: through a file, in the int8 engine.
  const test::TemporaryFolder folder;
  deploy::save_deploy(folder / "student.safetensors", end);
  const Graph loaded = deploy::load_deploy(folder / "student.safetensors");
  deploy::Engine simulation = deploy::make_simulation(loaded, {1, 32, 32});
  const auto out = student.forward(images);
  const std::vector<int>& maps = loaded.nodes.back().inputs;
  simulation.run(images, [&](const deploy::TensorView& v) {
    if (v.id == maps[0])
      CHECK(test::relative_difference(v.values(), out.cls_logits[0].data()) < 1e-6);
  });
  const Agreement a = compare(student, images);
  CHECK(a.steps == 0);
}

TEST_CASE("a trainable graph refuses graphs that the engine would refuse") {
  const Tensor images = test::random_images({1, 32, 32, 3}, 8);
  const Graph traced = test::traced(test::MixedNet(Activation::kReLU, 4), {1, 32, 32, 3});
  CHECK(test::error_of([&] { TrainableGraph t(traced); }).find("has not been fused") !=
        std::string::npos);
  Graph g = test::with_ranges(deploy::fuse(traced), images);
  Graph no_scales = g;
  for (deploy::Node& n : no_scales.nodes) n.weight_scale.clear();
  CHECK(test::error_of([&] { TrainableGraph t(no_scales); }).find("has no weight scales") !=
        std::string::npos);
  CHECK(test::error_of([&] {
          TrainableGraph(g).forward(Tensor::zeros({1, 32, 32, 3}));
        }).find("must be U8") != std::string::npos);
}

TEST_CASE("the trainable graph and the teacher give the objectness maps") {
  const Tensor images = test::random_images({1, 32, 32, 3}, 5);
  const Graph fused =
      deploy::fuse(test::traced(test::MixedNet(Activation::kReLU, 12, true), {1, 32, 32, 3}));
  const Graph g = test::with_ranges(fused, images);
  const TrainableGraph trainable(g, {.features = neck_outputs(g)});
  const Agreement a = compare(trainable, images);
  CHECK(a.steps == 0);
  CHECK(a.real < 1e-6);
  const auto out = trainable.forward(images);
  REQUIRE(out.objectness.size() == 2);
  CHECK(out.objectness[0].shape() == Shape{1, 16, 16, 1});
  CHECK(out.reg[1].shape() == Shape{1, 8, 8, 4});
  backward(channel_wise_distillation(out.objectness[0], Tensor::zeros({1, 16, 16, 1})));
  bool reached = false;
  for (const ParameterRef& p : trainable.parameters())
    if (p.name == "detect.obj_preds.0.weight") reached = p.variable.grad().defined();
  CHECK(reached);
  DistillationTeacher teacher(fused, neck_outputs(fused));
  const auto taught = teacher.run(images);
  REQUIRE(taught.objectness.size() == 2);
  deploy::Engine engine(fused, {1, 32, 32});
  engine.run(images, [&](const deploy::TensorView& v) {
    for (size_t l = 0; l < 2; ++l)
      if (v.info->name == fmt::format("detect.obj_preds.{}", l))
        CHECK(test::max_difference(v.values(), taught.objectness[l]) == 0);
  });
  // the neck's outputs are the same with and without
  const Graph plain =
      deploy::fuse(test::traced(test::MixedNet(Activation::kReLU, 12), {1, 32, 32, 3}));
  for (size_t l = 0; l < 2; ++l)
    CHECK(fused.tensors[static_cast<size_t>(neck_outputs(fused)[l])].name ==
          plain.tensors[static_cast<size_t>(neck_outputs(plain)[l])].name);
}
