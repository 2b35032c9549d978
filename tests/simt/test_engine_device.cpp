// SPDX-License-Identifier: Apache-2.0
// The CUDA engine against the CPU's, on the device of the SIMT runner.
#include <cmath>
#include <cstdlib>

#include "deploy/detect/detector.h"
#include "deploy/engine/engine.h"
#include "deploy/engine/selftest.h"
#include "deploy/engine/simulate.h"
#include "deploy/networks.h"
#include "simt/accelerator.h"
#include "simt/mixed_graph.h"

namespace sextant::test {
namespace {

using namespace sextant::deploy;

EngineConfig config_for(Precision precision, Device device, int64_t batch = 1,
                        int64_t height = kMixedHeight, int64_t width = kMixedWidth) {
  return {
      .batch = batch, .height = height, .width = width, .precision = precision, .device = device};
}

// Everything YOLOv6 has, with few channels.
Graph tiny_yolov6_graph() {
  Yolov6Config config;
  config.width_multiple = 0.0625;
  config.depth_multiple = 0.25;
  config.num_classes = 3;
  Yolov6 model(config, 41);
  randomize(model, 42);
  model.train(false);
  return fuse(traced(model, {1, 32, 64, 3}));
}

// The largest relative difference of any tensor, as floats.
double tensors_apart(Engine& engine, Engine& reference, const Tensor& images) {
  std::vector<Tensor> expected;
  reference.run(images, [&](const TensorView& v) { expected.push_back(v.values()); });
  size_t next = 0;
  double worst = 0;
  const Tensor y = engine.run(images, [&](const TensorView& v) {
    const double d = relative_difference(v.values(), expected.at(next++));
    CAPTURE(v.info->name, d);
    worst = std::max(worst, std::isnan(d) ? INFINITY : d);
  });
  CHECK(next == expected.size());
  CHECK(relative_difference(y, reference.run(images)) <= worst);
  return worst;
}

// Steps between the integers of two engines at any tensor; floats within `floats` of the largest.
int64_t steps_apart(Engine& engine, Engine& reference, const Tensor& images, double floats) {
  int64_t steps = 0;
  for (const StepDifference& d : compare_engines(engine, reference, images)) {
    CAPTURE(d.tensor, d.max_steps, d.differing, d.values, d.max_float);
    CHECK(d.max_steps <= 1);
    CHECK(d.max_float <= floats);
    steps = std::max(steps, d.max_steps);
  }
  return steps;
}

TEST_CASE("engine on the device: fp32 is the CPU's within 1e-5 at every tensor") {
  const TestDevice device;
  if (!device.usable()) return;
  for (const Activation act : {Activation::kReLU, Activation::kSiLU}) {
    CAPTURE(name_of(act));
    const Graph g = mixed_graph(act, 2);
    const int64_t batch = act == Activation::kReLU ? 2 : 1;
    Engine cpu(g, config_for(Precision::kFloat32, Device::kCpu, batch));
    Engine cuda(g, config_for(Precision::kFloat32, Device::kCuda, batch));
    for (uint64_t seed = 3; seed <= 5 - static_cast<uint64_t>(batch); ++seed)
      // the second time: nothing may stay behind in the arena
      CHECK(tensors_apart(cuda, cpu, random_images({batch, kMixedHeight, kMixedWidth, 3}, seed)) <
            1e-5);
    // Convolutions read and write with a pitch here: what a concat takes once lies in its buffer.
    CHECK(cuda.stats().concats_in_place == 10);
    CHECK(cuda.stats().concat_copies == 0);
    CHECK(cuda.stats().arena_bytes < cuda.stats().unplanned_bytes);
  }
}

TEST_CASE("engine on the device: fp16 is near fp32") {
  const TestDevice device;
  if (!device.usable()) return;
  const Graph g = mixed_graph(Activation::kSiLU, 5);
  Engine fp32(g, config_for(Precision::kFloat32, Device::kCpu));
  Engine fp16(g, config_for(Precision::kFloat16, Device::kCuda));
  const double d = tensors_apart(fp16, fp32, random_images({1, kMixedHeight, kMixedWidth, 3}, 6));
  CAPTURE(d);
  CHECK(d < 1e-2);
  CHECK(d > 1e-5);  // it is not f32
}

TEST_CASE("engine on the device: int8 has the CPU's integers") {
  const TestDevice device;
  if (!device.usable()) return;
  const Tensor images = random_images({2, kMixedHeight, kMixedWidth, 3}, 8);
  for (const Activation act : {Activation::kReLU, Activation::kLeakyReLU, Activation::kSiLU}) {
    CAPTURE(name_of(act));
    const Graph g = with_ranges(mixed_graph(act, 7), images, 0.7f);  // clips
    Engine cpu(g, config_for(Precision::kInt8, Device::kCpu, 2));
    Engine cuda(g, config_for(Precision::kInt8, Device::kCuda, 2));
    const bool exact = act != Activation::kSiLU;
    const int64_t steps = steps_apart(cuda, cpu, images, exact ? 1e-5 : 0.02);
    if (exact) CHECK(steps == 0);
    CHECK(cuda.stats().requantizations == 0);
    CHECK(cuda.stats().concats_in_place == 10);
    if (act != Activation::kSiLU) continue;
    // Each layer on the CPU's integers.
    for (const StepDifference& d : compare_layers(cuda, cpu, images)) {
      CAPTURE(d.tensor, d.differing, d.values);
      CHECK(d.max_steps <= 1);
      CHECK(d.max_float < 1e-5);
    }
  }
}

TEST_CASE("engine on the device: int8 with a separate range for every tensor") {
  const TestDevice device;
  if (!device.usable()) return;
  const Tensor images = random_images({1, kMixedHeight, kMixedWidth, 3}, 10);
  Graph g = mixed_graph(Activation::kReLU, 9);
  separate_ranges(g);
  std::vector<float> amax(g.tensors.size(), 0.0f);
  Engine(g, config_for(Precision::kFloat32, Device::kCpu)).run(images, [&](const TensorView& v) {
    const Tensor values = v.values();
    for (const float x : values.span<float>())
      amax[static_cast<size_t>(v.id)] = std::max(amax[static_cast<size_t>(v.id)], std::abs(x));
  });
  assign_ranges(g, amax);
  set_weight_scales(g);
  Engine cpu(g, config_for(Precision::kInt8, Device::kCpu));
  Engine cuda(g, config_for(Precision::kInt8, Device::kCuda));
  CHECK(cuda.stats().requantizations == cpu.stats().requantizations);
  CHECK(cuda.stats().requantizations > 0);
  CHECK(steps_apart(cuda, cpu, images, 1e-5) == 0);
}

TEST_CASE("engine on the device: layers kept in float inside an int8 graph") {
  const TestDevice device;
  if (!device.usable()) return;
  const Tensor images = random_images({1, kMixedHeight, kMixedWidth, 3}, 12);
  const Graph whole = with_ranges(mixed_graph(Activation::kReLU, 11), images);
  for (const int every : {1, 2}) {
    Graph g = whole;
    int count = 0;
    for (Node& n : g.nodes)
      if (n.has_weight() && count++ % every == 0) n.precision = Precision::kFloat32;
    Engine cpu(g, config_for(Precision::kInt8, Device::kCpu));
    Engine cuda(g, config_for(Precision::kInt8, Device::kCuda));
    CAPTURE(every);
    steps_apart(cuda, cpu, images, 0.02);
  }
}

TEST_CASE("engine on the device: means, depth to space and softmax, floats between integers") {
  const TestDevice device;
  if (!device.usable()) return;
  Graph g;
  g.tensors = {{"images", {1, 6, 6, 3}}, {"conv", {1, 6, 6, 20}}, {"means", {1, 3, 3, 20}},
               {"spread", {1, 5, 6, 5}}, {"mean", {1, 1, 1, 5}},  {"last", {1, 1, 1, 7}},
               {"softmax", {1, 1, 1, 7}}};
  g.input = 0;
  g.output = 6;
  const auto node = [&](const Attributes& attributes, int output) {
    Node n;
    n.attributes = attributes;
    n.output = output;
    n.name = g.tensors[static_cast<size_t>(output)].name;
    if (output > 0) n.inputs = {output - 1};
    return n;
  };
  Node conv = node(ConvAttributes{.padding = 1, .activation = Activation::kReLU}, 1);
  conv.weight = random_tensor({20, 3, 3, 3}, 21);
  conv.bias = random_tensor({20}, 22);
  Node last = node(ConvAttributes{}, 5);
  last.weight = random_tensor({7, 1, 1, 5}, 23);
  const AveragePoolAttributes means{3, 3, 2, 1, 1, 0, 0};
  g.nodes = {node(InputAttributes{}, 0),
             conv,
             node(means, 2),
             node(DepthToSpaceAttributes{2, 1, 0}, 3),
             node(GlobalAvgPoolAttributes{}, 4),
             last,
             node(SoftmaxAttributes{}, 6)};
  const Tensor images = random_images({2, 6, 6, 3}, 24);
  const auto config = [](Precision p, Device d) { return config_for(p, d, 2, 6, 6); };
  Engine cpu(g, config(Precision::kFloat32, Device::kCpu));
  Engine fp32(g, config(Precision::kFloat32, Device::kCuda));
  Engine fp16(g, config(Precision::kFloat16, Device::kCuda));
  CHECK(tensors_apart(fp32, cpu, images) < 1e-5);
  CHECK(tensors_apart(fp16, cpu, images) < 3e-3);
  const Graph q = with_ranges(g, images);
  Engine cpu8(q, config(Precision::kInt8, Device::kCpu));
  Engine cuda8(q, config(Precision::kInt8, Device::kCuda));
  CHECK(steps_apart(cuda8, cpu8, images, 1e-5) == 0);
}

TEST_CASE("engine on the device: YOLOv6 in fp32, fp16 and int8") {
  const TestDevice device;
  if (!device.usable()) return;
  const Tensor images = random_images({1, 32, 64, 3}, 14);
  const Graph fused = tiny_yolov6_graph();
  const auto config = [](Precision p, Device d) { return config_for(p, d, 1, 32, 64); };
  Engine cpu(fused, config(Precision::kFloat32, Device::kCpu));
  Engine fp32(fused, config(Precision::kFloat32, Device::kCuda));
  CHECK(tensors_apart(fp32, cpu, images) < 1e-5);
  Engine fp16(fused, config(Precision::kFloat16, Device::kCuda));
  CHECK(tensors_apart(fp16, cpu, images) < 2e-2);
  const Graph g = with_ranges(fused, images, 0.8f);
  Engine cpu8(g, config(Precision::kInt8, Device::kCpu));
  Engine cuda8(g, config(Precision::kInt8, Device::kCuda));
  CHECK(steps_apart(cuda8, cpu8, images, 1e-5) == 0);
}

TEST_CASE("engine on the device: images and result there, no allocation, times of steps") {
  const TestDevice device;
  if (!device.usable()) return;
  const Tensor images = random_images({1, kMixedHeight, kMixedWidth, 3}, 20);
  const Graph g = with_ranges(mixed_graph(Activation::kReLU, 19), images);
  Engine engine(g, config_for(Precision::kInt8, Device::kCuda));
  const Tensor expected = engine.run(images);
  // Nothing is allocated by a run but its result on the host.
  const Tensor there = images.to(Device::kCuda);
  const int64_t before = device_stats().active_bytes;
  device_reset_peak();
  const Tensor y = engine.run_on_device(there);
  CHECK(device_stats().peak_bytes == before);
  CHECK(y.device() == Device::kCuda);
  CHECK(max_difference(y.to(Device::kCpu), expected) == 0);
  // A clock around each step, which run again give the same.
  const auto times = engine.profile(images, 2);
  CHECK(static_cast<int64_t>(times.size()) == engine.stats().steps);
  CHECK(times[1].flops > 0);
  CHECK(max_difference(y.to(Device::kCpu), expected) == 0);
}

TEST_CASE("engine on the device: refuses unsupported configurations") {
  const TestDevice device;
  if (!device.usable()) return;
  const Tensor images = random_images({1, kMixedHeight, kMixedWidth, 3}, 16);
  const Graph g = with_ranges(mixed_graph(Activation::kReLU, 15), images);
  const auto refusal = [&](EngineConfig config) { return error_of([&] { Engine(g, config); }); };
  CHECK(refusal(config_for(Precision::kFloat16, Device::kCpu)) ==
        "engine: precision fp16 needs device cuda");
  CHECK(refusal(config_for(Precision::kInteger, Device::kCuda)) ==
        "engine: precision integer needs device cpu");
  EngineConfig simulation = config_for(Precision::kInt8, Device::kCuda);
  simulation.simulate = true;
  CHECK(refusal(simulation) == "engine: simulate needs device cpu");
  EngineConfig floats = config_for(Precision::kFloat16, Device::kCuda);
  floats.float_images = true;
  CHECK(refusal(floats) == "engine: float_images needs precision fp32");
  Engine cpu(g, config_for(Precision::kFloat32, Device::kCpu));
  CHECK(error_of([&] { cpu.run(images.to(Device::kCuda)); }) ==
        "engine: images U8 [1,16,24,3] on cuda, expected U8 [1,16,24,3]");
}

#if defined(SEXTANT_SIMT)
TEST_CASE("without a device there is no engine on it") {
  const Graph g = mixed_graph(Activation::kReLU, 15);
  CHECK(error_of([&] { Engine(g, config_for(Precision::kFloat32, Device::kCuda)); }) ==
        "no CUDA device has been started");
}
#endif

TEST_CASE("self-test on the device: the CPU's integers, but behind exponentials") {
  const TestDevice device;
  if (!device.usable()) return;
  for (const Activation a : {Activation::kReLU, Activation::kSiLU}) {
    Graph g = with_ranges(mixed_graph(a, 19), random_images({1, kMixedHeight, kMixedWidth, 3}, 20));
    deploy::add_golden_integers(g);
    const deploy::SelfTest t = deploy::selftest(g, Device::kCuda);
    CHECK(t.tensors > 0);
    CHECK(t.tensors < std::ssize(g.proof.golden));  // every network here has exponentials
    CHECK(t.tensors + t.others == std::ssize(g.nodes));
    g.proof.golden[1].hashes[1] = g.proof.golden[1].hashes[0];
    if (a == Activation::kReLU)
      CHECK_THAT(error_of([&] { deploy::selftest(g, Device::kCuda); }),
                 Contains(g.proof.golden[1].tensor) && Contains("image 1"));
  }
}

TEST_CASE("detector on the device: the CPU's boxes") {
  const TestDevice device;
  if (!device.usable()) return;
  const Graph g = mixed_graph(Activation::kReLU, 17);
  data::Image image = data::make_image(41, 29);
  const Tensor pixels = random_images({1, 29, 41, 3}, 18);
  std::copy_n(pixels.data<uint8_t>(), image.pixels.size(), image.pixels.begin());
  deploy::DetectorConfig config;
  config.image_size = 24;
  config.nms.conf = 0.3f;
  config.nms.multi_label = true;
  config.nms.max_det = 40;
  deploy::Detector cpu(g, config);
  config.device = Device::kCuda;
  deploy::Detector cuda(g, config);
  cuda.warm_up();
  const auto expected = cpu.run(image);
  const auto found = cuda.run(image);
  CHECK(expected.size() > 3);
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i);
    CHECK(found[i].class_id == expected[i].class_id);
    CHECK(std::abs(found[i].score - expected[i].score) < 2e-3);
    CHECK(std::abs(found[i].x1 - expected[i].x1) < 0.05);
    CHECK(std::abs(found[i].y2 - expected[i].y2) < 0.05);
  }
  CHECK(cuda.times().images == 1);
}

}  // namespace
}  // namespace sextant::test
