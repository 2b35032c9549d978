// SPDX-License-Identifier: Apache-2.0
// Ranges that were not unified: requantizing steps, and the table of the effects of passes.
#include "deploy/engine/engine.h"
#include "deploy/engine/pass_report.h"
#include "deploy/engine/simulate.h"
#include "deploy/networks.h"

using namespace sextant;
using namespace sextant::deploy;
using test::MixedNet;

namespace {

// Every tensor its own range, from one float run.
Graph separate(const Graph& fused, const Tensor& images, float shrink) {
  Graph g = fused;
  separate_ranges(g);
  std::vector<float> amax(g.tensors.size(), 0.0f);
  Engine engine(g, {images.dim(0), images.dim(1), images.dim(2)});
  engine.run(images, [&](const TensorView& v) {
    const Tensor values = v.values();
    for (const float x : values.span<float>())
      amax[static_cast<size_t>(v.id)] =
          std::max(amax[static_cast<size_t>(v.id)], std::abs(x) * shrink);
  });
  assign_ranges(g, amax);
  set_weight_scales(g);
  return g;
}

int64_t steps_of_kind(Engine& engine, const Tensor& images, const std::string& kind) {
  int64_t n = 0;
  for (const StepTime& t : engine.profile(images, 1)) n += t.kind == kind;
  return n;
}

}  // namespace

TEST_CASE("separate ranges: requantized where they meet, and simulated equally") {
  const float shrink = GENERATE(1.0f, 0.6f);
  const MixedNet net(Activation::kReLU, 21);
  const Tensor images = test::random_images({2, 16, 24, 3}, 22);
  const Graph fused = fuse(test::traced(net, {1, 32, 48, 3}));
  const Graph g = separate(fused, images, shrink);
  EngineConfig config{2, 16, 24, Precision::kInt8};
  Engine engine(g, config);
  Engine simulation = make_simulation(g, config);
  const int64_t joints = count_requantizations(g);
  CHECK(joints >= 10);
  CHECK(engine.stats().requantizations == joints);
  CHECK(steps_of_kind(engine, images, "requantize") == joints);
  int64_t differing = 0, values = 0;
  for (const StepDifference& d : compare_engines(engine, simulation, images)) {
    CAPTURE(d.tensor);
    CHECK(d.max_steps == 0);
    if (!d.floats) differing += d.differing;
    values += d.values;
  }
  CHECK(differing == 0);
  CHECK(values > 100000);
  // as close to the float network as one range for all
  const Tensor exact = Engine(fused, {2, 16, 24}).run(images);
  const double apart = test::relative_difference(engine.run(images), exact);
  CAPTURE(apart);
  CHECK(apart < (shrink == 1.0f ? 0.1 : 0.5));
  CHECK(apart > 0);
  // the fully integer engine takes such graphs too
  config.precision = Precision::kInteger;
  Engine integer(g, config);
  CHECK(integer.stats().requantizations == joints);
  for (const StepDifference& d : compare_layers(integer, engine, images)) {
    CAPTURE(d.tensor);
    CHECK(d.max_steps <= 1);
  }
  const Graph unified = test::with_ranges(fused, images, shrink);
  config.precision = Precision::kInt8;
  Engine plain(unified, config);
  CHECK(steps_of_kind(plain, images, "requantize") == 0);
  CHECK(plain.stats().concats_in_place > engine.stats().concats_in_place);
}

TEST_CASE("the table of passes") {
  const MixedNet net(Activation::kReLU, 23);
  const Graph traced = test::traced(net, {1, 32, 32, 3});
  const Graph fused = fuse(traced);
  const PassReport r = report_passes(traced, {32, 48, 3});
  std::vector<std::string> names;
  for (const PassRow& row : r.rows) names.push_back(row.pass);
  CHECK(names == std::vector<std::string>{"traced", "fold_linear", "fold_activation",
                                          "fold_residual", "remove_dead", "unify_ranges"});
  for (size_t i = 1; i < r.rows.size(); ++i) {
    CAPTURE(r.rows[i].pass);
    CHECK(r.rows[i].nodes <= r.rows[i - 1].nodes);
    CHECK(r.rows[i].moved_mb <= r.rows[i - 1].moved_mb);
    CHECK(r.rows[i].requantizations <= r.rows[i - 1].requantizations);
  }
  CHECK(r.rows[0].nodes == static_cast<int64_t>(traced.nodes.size()));
  CHECK(r.rows[4].nodes == static_cast<int64_t>(fused.nodes.size()));
  CHECK(r.rows[1].convolutions < r.rows[0].convolutions);
  CHECK(r.rows[5].requantizations == 1);  // the activation that cannot be folded
  CHECK(r.requantizations == 0);
  CHECK(r.remaining_joints == 0);
  // timed where that runs: not with batch-norms in the graph
  CHECK_FALSE(r.rows[1].ms_without);
  for (const size_t i : {size_t{2}, size_t{3}, size_t{5}}) REQUIRE(r.rows[i].ms_without);
  REQUIRE(r.ms);
  CHECK(*r.ms > 0);
  const std::string text = format_passes(r);
  CHECK(text.find("fold_residual") != std::string::npos);
  CHECK(text.find("0 requantizing steps") != std::string::npos);
  CHECK(passes_to_json(r)["passes"].size() == 6);

  // a graph that comes fused, with ranges of its own for each tensor
  const PassReport of_file =
      report_passes(separate(fused, test::random_images({1, 32, 32, 3}, 24), 1.0f), {32, 32, 0});
  REQUIRE(of_file.rows.size() == 2);
  CHECK(of_file.rows[0].pass == "fused");
  CHECK(of_file.remaining_joints >= 10);
  CHECK_FALSE(of_file.ms);
}
