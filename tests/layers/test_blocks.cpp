// SPDX-License-Identifier: Apache-2.0
// Every block of the fixtures against the official implementation: outputs in both modes,
// gradients, running statistics.
#include <algorithm>
#include <cmath>

#include "support/block_fixtures.h"
#include "support/support.h"

namespace {

using namespace sextant;
using test::relative_difference;

constexpr double kEval = 1e-5, kTrain = 1e-5, kGrad = 1e-4;

double largest(const Tensor& t) {
  double m = 0;
  for (const float v : t.span<float>()) m = std::max(m, std::abs(static_cast<double>(v)));
  return m;
}

void check_block(const test::BlockFixture& fixture) {
  const SafeTensors& f = fixture.file;
  INFO("block " << fixture.name);
  const test::FixtureBlock block = fixture.make();
  block.module->load_state(fixture.state(*block.module));

  const auto inputs = [&](bool wants_grad) {
    std::vector<Variable> x;
    for (const std::string& name : fixture.inputs())
      x.emplace_back(nchw_to_nhwc(f.at("input." + name)), wants_grad);
    return x;
  };
  const auto run = [&](bool training) {
    const NoGrad guard;
    block.module->train(training);
    return nhwc_to_nchw(block.forward(inputs(false)).data());
  };
  CHECK(relative_difference(run(false), f.at("output.eval_initial")) < kEval);

  block.module->train(true);
  const std::vector<Variable> x = inputs(true);
  const Variable y = block.forward(x);
  CHECK(relative_difference(nhwc_to_nchw(y.data()), f.at("output.train")) < kTrain);
  backward({{y, nchw_to_nhwc(f.at("grad_output"))}});
  for (size_t i = 0; i < x.size(); ++i) {
    const std::string name = x.size() == 1 ? "grad.input" : "grad.input." + fixture.inputs()[i];
    CHECK(relative_difference(nhwc_to_nchw(x[i].grad()), f.at(name)) < kGrad);
  }
  int compared = 0;
  double all = 0;
  for (const auto& [name, t] : f.tensors)
    if (name.starts_with("grad.param.")) all = std::max(all, largest(t));
  for (const auto& p : block.module->parameters()) {
    INFO("parameter " << p.name);
    const Tensor* expected = f.find("grad.param." + p.name);
    CHECK(p.variable.grad().defined() == (expected != nullptr));  // frozen or unused: none
    if (!expected || !p.variable.grad().defined()) continue;
    if (largest(*expected) < 1e-9 * all) {  // zero but for rounding: a bias before a batch-norm
      CHECK(largest(p.variable.grad()) < 1e-5 * all);
      continue;
    }
    CHECK(relative_difference(to_file_layout(p.variable.grad(), p.layout), *expected) < kGrad);
    ++compared;
  }
  CHECK((compared > 0) == !block.module->parameters().empty());
  for (const auto& b : block.module->buffers()) {
    INFO("buffer " << b.name);
    if (b.tensor.dtype() == DType::kI64)
      CHECK(*b.tensor.data<int64_t>() == *f.at("after." + b.name).data<int64_t>());
    else
      CHECK(relative_difference(b.tensor, f.at("after." + b.name)) < kEval);
  }
  CHECK(relative_difference(run(false), f.at("output.eval")) < kEval);
}

}  // namespace

TEST_CASE("every block agrees with the official one") {
  for (const auto& fixture : test::block_fixtures()) check_block(fixture);
}

TEST_CASE("every block of YOLOv6Lite agrees with the official one") {
  for (const auto& fixture : test::block_fixtures(test::kLiteFixtures)) check_block(fixture);
}

TEST_CASE("a stage that leaves no channels is refused") {
  Rng rng(1);
  CHECK(test::error_of([&] { BepC3(8, 8, 2, 0.1, {}, rng); }) ==
        "BepC3: no channels left of 8 with expansion 0.1");
}

TEST_CASE("a state dict with a missing, extra or misshapen tensor is refused by name") {
  Rng rng(3);
  ConvBNAct block(3, 5, 3, 1, Activation::kReLU, rng);
  SafeTensors file;
  file.path = "weights.safetensors";
  block.save_state(file);
  block.load_state(file);
  SafeTensors missing = file;
  missing.tensors.erase(missing.tensors.begin());
  CHECK(test::error_of([&] { block.load_state(missing); }) ==
        "weights.safetensors: has no tensor 'block.conv.weight'");
  SafeTensors extra = file;
  extra.add("block.conv.bias", Tensor::zeros(Shape{5}));
  CHECK(test::error_of([&] { block.load_state(extra); }) ==
        "weights.safetensors: tensor 'block.conv.bias' is not part of this model");
  SafeTensors shape = file;
  shape.tensors[0].second = Tensor::zeros(Shape{5, 3, 1, 1});
  CHECK(test::error_of([&] { block.load_state(shape); }) ==
        "weights.safetensors: tensor 'block.conv.weight' has shape [5,3,1,1], expected [5,3,3,3]");
}
