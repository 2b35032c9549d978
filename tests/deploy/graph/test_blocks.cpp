// SPDX-License-Identifier: Apache-2.0
// Every block of the fixtures, traced and fused: the official deploy form's weights, one
// convolution for each block that is one, and both engines.
#include <algorithm>
#include <cmath>

#include "deploy/engine/engine.h"
#include "deploy/engine/simulate.h"
#include "deploy/networks.h"
#include "support/block_fixtures.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

// An image brought to the block's inputs, the first of several the smallest.
class Probe : public Module {
 public:
  explicit Probe(const test::BlockFixture& fixture) : block_(fixture.make()) {
    Rng rng(5);
    register_module("block", block_.module);
    SafeTensors state = fixture.state(*block_.module);
    for (auto& [name, t] : state.tensors)
      if (const Tensor* after = fixture.file.find("after." + name)) t = *after;
    block_.module->load_state(state);
    const std::vector<std::string> inputs = fixture.inputs();
    for (size_t i = 0; i < inputs.size(); ++i)
      inputs_.push_back(register_module(
          inputs[i], std::make_shared<Conv2d>(
                         3, fixture.file.at("input." + inputs[i]).dim(1), 1,
                         ConvParams{int64_t{1} << (inputs.size() - 1 - i), 0, 1}, true, rng)));
    train(false);
  }
  Variable predict(const Variable& image) const {
    std::vector<Variable> x;
    for (const auto& conv : inputs_) x.push_back(relu(conv->forward(image)));
    return block_.forward(x);
  }
  size_t inputs() const { return inputs_.size(); }

 private:
  test::FixtureBlock block_;
  std::vector<std::shared_ptr<Conv2d>> inputs_;
};

// Folds the batch-norm that the official deploy form of a QARepVGG block leaves behind it.
void fold_outer_norm(const SafeTensors& f, const Tensor& weight, const Tensor& bias) {
  const int64_t per_channel = weight.numel() / weight.dim(0);
  for (int64_t o = 0; o < weight.dim(0); ++o) {
    const auto value = [&](const char* name) {
      return static_cast<double>(f.at(fmt::format("fused.bn.{}", name)).f32()[o]);
    };
    const double factor = value("weight") / std::sqrt(value("running_var") + 1e-3);
    for (int64_t i = 0; i < per_channel; ++i) {
      float& w = weight.f32()[o * per_channel + i];
      w = static_cast<float>(w * factor);
    }
    bias.f32()[o] =
        static_cast<float>(value("bias") + (bias.f32()[o] - value("running_mean")) * factor);
  }
}

// Nodes against the official fused weights; how many.
int compare_weights(const Graph& g, const SafeTensors& f) {
  int compared = 0;
  for (const auto& [name, t] : f.tensors) {
    if (!name.starts_with("fused.") || t.shape().rank() != 4 || name.find("upsample_") != name.npos)
      continue;
    const std::string path = name.substr(6, name.size() - 6 - std::string(".weight").size());
    CAPTURE(path);
    const Node* node = g.find_node("block." + path);
    REQUIRE(node);
    const Tensor weight = nchw_to_nhwc(t), bias = f.at("fused." + path + ".bias").clone();
    if (f.find("fused.bn.weight")) fold_outer_norm(f, weight, bias);
    CHECK(test::relative_difference(node->weight, weight) < 1e-5);
    CHECK(test::relative_difference(node->bias, bias) < 1e-5);
    ++compared;
  }
  return compared;
}

void check_blocks(const std::string& folder) {
  for (const auto& fixture : test::block_fixtures(folder)) {
    INFO("block " << fixture.name);
    const Probe probe(fixture);
    const Graph g = fuse(test::traced(probe, {1, 8, 8, 3}));
    const int compared = compare_weights(g, fixture.file);
    const bool fused = std::any_of(fixture.file.tensors.begin(), fixture.file.tensors.end(),
                                   [](const auto& t) { return t.first.starts_with("fused."); });
    CHECK((compared > 0) == fused);
    for (const char* single : {"repvgg", "qarepvgg", "realvgg", "linearadd", "convbn"})
      if (fixture.name.starts_with(single))
        CHECK(g.nodes.size() == 2 + probe.inputs());  // image, the block's inputs, one convolution

    const Tensor images = test::random_images({2, 8, 12, 3}, 41);
    Tensor expected;
    {
      const NoGrad no_grad;
      expected = probe.predict(Variable(test::as_float_images(images))).data();
    }
    CHECK(test::relative_difference(Engine(g, {2, 8, 12}).run(images), expected) < 1e-5);
    const Graph ranged = test::with_ranges(g, images, 0.8f);
    const EngineConfig config{2, 8, 12, Precision::kInt8};
    Engine engine(ranged, config);
    Engine simulation = make_simulation(ranged, config);
    for (const StepDifference& d : compare_engines(engine, simulation, images)) {
      CAPTURE(d.tensor);
      CHECK(d.max_steps <= 1);
    }
    CHECK(test::relative_difference(engine.run(images), expected) < 0.5);
  }
}

}  // namespace

TEST_CASE("every block fuses to the official deploy form and runs in both engines") {
  check_blocks(test::kFixtures);
}

TEST_CASE("every block of YOLOv6Lite fuses to its deploy form and runs in both engines") {
  check_blocks(test::kLiteFixtures);
}
