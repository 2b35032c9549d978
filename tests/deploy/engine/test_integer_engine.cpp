// SPDX-License-Identifier: Apache-2.0
// The fully integer engine: against its plain kernels, against the int8 engine, and without a
// float.

#include <cfenv>
#include <cmath>

#include "core/parallel.h"
#include "deploy/engine/engine.h"
#include "deploy/engine/simulate.h"
#include "deploy/integer/decode.h"
#include "deploy/networks.h"
#include "support/model_fixtures.h"

using namespace sextant;
using namespace sextant::deploy;
using test::MixedNet;

namespace {

struct Totals {
  int64_t steps = 0, differing = 0, values = 0;
  double floats = 0;
};

Totals totals_of(const std::vector<StepDifference>& found) {
  Totals s;
  for (const StepDifference& d : found) {
    s.steps = std::max(s.steps, d.max_steps);
    s.differing += d.floats ? 0 : d.differing;
    s.values += d.floats ? 0 : d.values;
    s.floats = std::max(s.floats, d.max_float);
  }
  return s;
}

Graph graph_with_ranges(Activation act, uint64_t seed, const Tensor& images, float shrink = 1.0f) {
  const MixedNet net(act, seed);
  return test::with_ranges(fuse(test::traced(net, {1, 32, 32, 3})), images, shrink);
}

// The integers of every tensor of a run, and whether computing them rounded any float.
struct Trace {
  std::vector<Tensor> tensors;
  bool inexact = false;
};

Trace run_rounding(Engine& engine, const Tensor& images, int rounding) {
  Trace t;
  const int before = std::fegetround();
  std::fesetround(rounding);
  std::feclearexcept(FE_ALL_EXCEPT);
  engine.run(images, [&](const TensorView& v) {
    if (v.id == engine.graph().output) t.inexact = std::fetestexcept(FE_INEXACT) != 0;
    if (v.quantized) t.tensors.push_back(v.integers());
  });
  std::fesetround(before);
  return t;
}

int64_t differing_integers(const Trace& a, const Trace& b) {
  int64_t n = 0;
  REQUIRE(a.tensors.size() == b.tensors.size());
  for (size_t t = 0; t < a.tensors.size(); ++t)
    for (int64_t i = 0; i < a.tensors[t].numel(); ++i)
      n += a.tensors[t].data<int32_t>()[i] != b.tensors[t].data<int32_t>()[i];
  return n;
}

}  // namespace

TEST_CASE("integer engine: within a step of the int8 engine at every layer") {
  const Activation act = GENERATE(Activation::kReLU, Activation::kLeakyReLU, Activation::kSiLU,
                                  Activation::kHardswish, Activation::kMish);
  const float shrink = GENERATE(1.0f, 0.6f);  // the second saturates
  CAPTURE(name_of(act), shrink);
  const Tensor images = test::random_images({2, 16, 24, 3}, 10);
  const Graph g = graph_with_ranges(act, 9, images, shrink);
  const EngineConfig config{2, 16, 24, Precision::kInteger};
  Engine engine(g, config);
  Engine int8(g, {2, 16, 24, Precision::kInt8});
  CHECK(engine.stats().requantizations == 0);
  CHECK(engine.stats().concats_in_place >= int8.stats().concats_in_place);
  for (const StepDifference& d : compare_layers(engine, int8, images)) {
    CAPTURE(d.tensor, d.differing, d.values, d.max_float);
    CHECK(d.max_steps <= 1);
    CHECK(d.max_float < 2e-3);  // head outputs: 2^-12; result: the same in pixels
    // roundings of biases and of tables, in the last few hundredths of a step
    if (!d.floats) CHECK(d.differing * 12 <= d.values);
  }
  // The plain kernels define the result.
  EngineConfig plain = config;
  plain.plain = true;
  Engine reference(g, plain);
  const Totals s = totals_of(compare_engines(engine, reference, images));
  CHECK(s.differing == 0);
  CHECK(s.values > 100000);
  CHECK(test::max_difference(engine.run(images), reference.run(images)) == 0);
  // a comparison that sees a difference: one channel's bias moved by two steps
  Graph moved = g;
  for (Node& n : moved.nodes)
    if (n.name == "stem.rbr_reparam") {
      n.bias = n.bias.clone();
      n.bias.f32()[3] += 2 * g.tensors[static_cast<size_t>(n.output)].scale();
    }
  Engine other(moved, config);
  CHECK(compare_engines(engine, other, images)[1].max_steps == 2);
  CHECK(compare_layers(other, int8, images)[1].max_steps >= 2);
}

TEST_CASE("integer engine: no float operation between the pixels and the result") {
  const int threads = num_threads();
  set_num_threads(1);  // the flags and the rounding mode are a thread's own
  const Activation act = GENERATE(Activation::kReLU, Activation::kSiLU);
  CAPTURE(name_of(act));
  const Tensor images = test::random_images({1, 32, 32, 3}, 11);
  const Graph g = graph_with_ranges(act, 12, images);
  Engine integer(g, {1, 32, 32, Precision::kInteger});
  Engine int8(g, {1, 32, 32, Precision::kInt8});
  integer.run(images);
  int8.run(images);
  const Trace nearest = run_rounding(integer, images, FE_TONEAREST);
  const Trace upward = run_rounding(integer, images, FE_UPWARD);
  CHECK_FALSE(nearest.inexact);
  CHECK_FALSE(upward.inexact);
  CHECK(differing_integers(nearest, upward) == 0);
  CHECK(nearest.tensors.size() == g.tensors.size());
  // what both would show of an engine that computes in float
  const Trace floats = run_rounding(int8, images, FE_TONEAREST);
  CHECK(floats.inexact);
  CHECK(differing_integers(floats, run_rounding(int8, images, FE_UPWARD)) > 0);
  set_num_threads(threads);
}

TEST_CASE("integer engine: YOLOv6-N") {
  auto model = test::formula_model(Yolov6Config{}, "", 1.5);
  model->train(false);
  const Tensor images = test::random_images({1, 128, 64, 3}, 13);
  const Graph g = test::with_ranges(fuse(test::traced(*model, {1, 64, 64, 3})), images, 0.8f);
  Engine engine(g, {1, 128, 64, Precision::kInteger});
  Engine int8(g, {1, 128, 64, Precision::kInt8});
  const Totals s = totals_of(compare_layers(engine, int8, images));
  CAPTURE(s.differing, s.values, s.floats);
  CHECK(s.steps <= 1);
  CHECK(s.differing * 50 <= s.values);
  CHECK(s.floats < 1e-3);
  // no layer falls back to the plain kernels
  int64_t convolutions = 0, plain = 0;
  for (const StepTime& t : engine.profile(images, 1)) {
    convolutions += t.kind == "conv";
    plain += t.implementation == "plain";
  }
  CHECK(convolutions > 50);
  CHECK(plain == 0);
  // the result is in steps of 2^-16, boxes, ones and scores
  int64_t ones = 0;
  const Tensor result = engine.run(images, [&](const TensorView& v) {
    if (v.id != g.output) return;
    CHECK(v.dtype == DType::kI32);
    CHECK(v.scale == std::ldexp(1.0f, -kResultBits));
    const Tensor q = v.integers();
    for (int64_t r = 0; r < q.numel() / q.dim(2); ++r)
      ones += q.data<int32_t>()[r * q.dim(2) + 4] == 1 << kResultBits;
  });
  CHECK(ones == result.dim(1));
  CHECK(result.shape() == int8.run(images).shape());
}

TEST_CASE("integer engine: refuses graphs that it cannot run") {
  const Tensor images = test::random_images({1, 32, 32, 3}, 14);
  Graph g = graph_with_ranges(Activation::kReLU, 15, images);
  g.source = "m.safetensors";
  const EngineConfig config{1, 32, 32, Precision::kInteger};
  Graph part = g;
  for (Node& n : part.nodes)
    if (n.name == "down.block.conv") n.precision = Precision::kFloat32;
  CHECK(test::error_of([&] { Engine(part, config); }) ==
        "m.safetensors: node 'down.block.conv' is in float; the integer mode needs every layer "
        "in int8");
  Graph without = g;
  for (TensorInfo& t : without.tensors) t.amax = 0;
  CHECK(test::error_of([&] { Engine(without, config); }) ==
        "m.safetensors: has no activation ranges; run sextant quantize");
  EngineConfig simulated = config;
  simulated.simulate = true;
  CHECK(test::error_of([&] { Engine(g, simulated); }) == "engine: simulate needs precision int8");
}
