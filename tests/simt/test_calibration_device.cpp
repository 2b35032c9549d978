// SPDX-License-Identifier: Apache-2.0
// Calibration on the device: the engine's tensors are counted in device memory.
#include <cmath>
#include <string>

#include "deploy/engine/engine.h"
#include "deploy/networks.h"
#include "quant/ptq/ptq.h"
#include "quant/ranges/calibrator.h"
#include "simt/accelerator.h"
#include "simt/mixed_graph.h"

namespace sextant::test {
namespace {

using namespace sextant::deploy;
using namespace sextant::quant;

TEST_CASE("engine on the device: an observer sees the tensors in device memory") {
  const TestDevice device;
  if (!device.usable()) return;
  const Tensor images = random_images({2, kMixedHeight, kMixedWidth, 3}, 3);
  const Graph g = with_ranges(mixed_graph(Activation::kReLU, 7), images);
  for (const Precision precision : {Precision::kFloat32, Precision::kFloat16, Precision::kInt8}) {
    CAPTURE(name_of(precision));
    Engine engine(g, {.batch = 2,
                      .height = kMixedHeight,
                      .width = kMixedWidth,
                      .precision = precision,
                      .device = Device::kCuda});
    std::vector<Tensor> here, there;
    engine.run(images, [&](const TensorView& v) {
      CHECK(v.device == Device::kCpu);
      here.push_back(v.values());
    });
    const int64_t waits = device.host_waits();
    std::string refused;
    engine.run_on_device(images, [&](const TensorView& v) {
      CHECK(v.device == Device::kCuda);
      there.push_back(v.values());
      refused = error_of([&] { v.integers(); });
      CHECK(error_of([&] { v.assign({}); }) ==
            "deploy: tensor '" + v.info->name + "' is assigned to on cuda");
    });
    CHECK(device.host_waits() == waits);
    CHECK(refused.starts_with("deploy: integers of tensor '"));
    REQUIRE(there.size() == here.size());
    for (size_t i = 0; i < here.size(); ++i) {
      CAPTURE(i);
      CHECK(there[i].device() == Device::kCuda);
      CHECK(max_difference(there[i].to(Device::kCpu), here[i]) == 0);
    }
  }
}

TEST_CASE("calibration on the device: only maxima are copied, counts on request") {
  const TestDevice device;
  if (!device.usable()) return;
  HistogramCollector c;
  const auto collect = [&](HistogramCollector& to, uint64_t seed, double most) {
    const Tensor x = random_tensor({4000}, seed, -most, most).to(Device::kCuda);
    to.collect({x.f32(), 4000}, Device::kCuda);
  };
  collect(c, 1, 0.9);
  const int64_t before = device.host_waits();
  for (uint64_t seed = 2; seed < 5; ++seed) collect(c, seed, 0.9);
  CHECK(device.host_waits() - before <= 3);
  HistogramCollector other = c;  // independent from here on
  collect(other, 5, 3.0);        // the range grows
  CHECK(c.histogram().total() == 16000);
  CHECK(other.histogram().total() == 20000);
  collect(c, 6, 0.5);
  CHECK(c.histogram().total() == 20000);
}

// Ranges by both engines; and by the device's tensors, counted there and here.
TEST_CASE("calibration on the device: gives the ranges of the host") {
  const TestDevice device;
  if (!device.usable()) return;
  for (const Activation act : {Activation::kReLU, Activation::kSiLU}) {
    CAPTURE(name_of(act));
    const Graph g = mixed_graph(act, 7);
    std::vector<Tensor> batches;
    for (uint64_t seed = 11; seed < 13; ++seed)
      batches.push_back(random_images({1, kMixedHeight, kMixedWidth, 3}, seed));
    const auto quantized = [&](Method method, Device where) {
      const ImageSource source = [&batches, next = size_t{0}]() mutable {
        return next < batches.size() ? batches[next++] : Tensor();
      };
      return quantize(g, source, {.method = method, .device = where});
    };
    for (const Method method : {Method::kMax, Method::kPercentile}) {
      const Graph host = quantized(method, Device::kCpu), there = quantized(method, Device::kCuda);
      REQUIRE(there.tensors.size() == host.tensors.size());
      // A bin is at most the range, a power of two below twice the largest value, over 2 x 2048.
      const float bound = method == Method::kMax ? 1e-5f : 1.0f / 1024;
      for (size_t t = 0; t < host.tensors.size(); ++t) {
        CAPTURE(method, host.tensors[t].name, host.tensors[t].amax, there.tensors[t].amax);
        CHECK(there.tensors[t].has_range() == host.tensors[t].has_range());
        CHECK(there.tensors[t].is_unsigned == host.tensors[t].is_unsigned);
        CHECK(std::abs(there.tensors[t].amax - host.tensors[t].amax) <=
              bound * host.tensors[t].amax);
      }
      for (size_t n = 0; n < host.nodes.size(); ++n)
        CHECK(there.nodes[n].weight_scale == host.nodes[n].weight_scale);
    }

    Engine engine(g, {.height = kMixedHeight, .width = kMixedWidth, .device = Device::kCuda});
    std::vector<HistogramCollector> there(g.tensors.size()), here(g.tensors.size());
    for (const Tensor& images : batches)
      engine.run_on_device(images, [&](const TensorView& v) {
        const Tensor values = v.values(), copy = values.to(Device::kCpu);
        const auto i = static_cast<size_t>(v.id), n = static_cast<size_t>(values.numel());
        there[i].collect({values.f32(), n}, v.device);
        here[i].collect({copy.f32(), n});
      });
    for (size_t i = 0; i < there.size(); ++i) {
      CAPTURE(g.tensors[i].name);
      CHECK(there[i].histogram().counts == here[i].histogram().counts);
      CHECK(there[i].histogram().edges == here[i].histogram().edges);
      for (const Method m : {Method::kMax, Method::kPercentile, Method::kMse})
        CHECK(there[i].amax(m) == here[i].amax(m));
    }
  }
}

TEST_CASE("calibration on the device names a tensor that is not finite") {
  const TestDevice device;
  if (!device.usable()) return;
  Graph g = mixed_graph(Activation::kReLU, 7);
  for (Node& n : g.nodes)
    if (n.has_weight()) {
      n.bias.f32()[0] = INFINITY;
      break;
    }
  bool given = false;
  const ImageSource source = [&] {
    if (given) return Tensor();
    given = true;
    return random_images({1, kMixedHeight, kMixedWidth, 3}, 3);
  };
  const std::string error = error_of([&] { quantize(g, source, {.device = Device::kCuda}); });
  CHECK(error.starts_with("ptq: tensor '"));
  CHECK(error.find("values are not finite") != std::string::npos);
}

}  // namespace
}  // namespace sextant::test
