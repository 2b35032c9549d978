// SPDX-License-Identifier: Apache-2.0
// Operations of a Module on its submodules: modes, freezing, lookup by path.
#include <cstring>

#include "layers/blocks.h"
#include "support/support.h"

using namespace sextant;

namespace {

// Two blocks, one behind the other.
struct Net : Layer {
  Net() {
    Rng rng(3);
    first = register_module("first", std::make_shared<RepVGGBlock>(4, 4, 1, rng));
    second = register_module("second", std::make_shared<RepVGGBlock>(4, 4, 1, rng));
  }
  Variable forward(const Variable& x) const override { return second->forward(first->forward(x)); }
  std::shared_ptr<RepVGGBlock> first, second;
};

std::vector<Tensor> copies(const Module& module) {
  std::vector<Tensor> out;
  for (const StateRef& s : module.state()) out.push_back(s.tensor.clone());
  return out;
}

int64_t changed(const Module& module, const std::vector<Tensor>& before) {
  const std::vector<StateRef> now = module.state();
  REQUIRE(now.size() == before.size());
  int64_t count = 0;
  for (size_t i = 0; i < now.size(); ++i)
    count += std::memcmp(now[i].tensor.raw(), before[i].raw(),
                         static_cast<size_t>(before[i].bytes())) != 0;
  return count;
}

}  // namespace

TEST_CASE("a frozen module stays in evaluation mode, below it too") {
  Net net;
  CHECK(net.first->training());
  net.first->freeze();
  CHECK_FALSE(net.first->training());
  for (const bool on : {true, false, true}) {
    net.train(on);
    CHECK(net.training() == on);
    CHECK(net.second->training() == on);
    CHECK(net.find("second.rbr_dense.bn")->training() == on);
    for (const char* path :
         {"first", "first.rbr_dense", "first.rbr_dense.bn", "first.rbr_identity"})
      CHECK_FALSE(net.find(path)->training());
  }
}

TEST_CASE(
    "a frozen module takes no gradients and keeps its statistics while its surroundings learn") {
  Net net;
  net.train(true);
  net.first->freeze();
  const std::vector<Tensor> frozen = copies(*net.first), free = copies(*net.second);
  const Variable x(test::random_tensor(Shape{2, 6, 6, 4}, 1), true);
  const Variable y = net.forward(x);
  backward({{y, test::random_tensor(y.shape(), 2)}});
  REQUIRE_FALSE(net.first->parameters().empty());
  for (const ParameterRef& p : net.first->parameters()) {
    CAPTURE(p.name);
    CHECK_FALSE(p.variable.requires_grad());
    CHECK_FALSE(p.variable.grad().defined());
  }
  for (const ParameterRef& p : net.second->parameters()) {
    CAPTURE(p.name);
    CHECK(p.variable.requires_grad());
    CHECK(p.variable.grad().defined());
  }
  // Gradients pass through it.
  REQUIRE(x.grad().defined());
  CHECK(test::max_difference(x.grad(), Tensor::zeros(x.shape())) > 0);
  CHECK(changed(*net.first, frozen) == 0);
  CHECK(changed(*net.second, free) == 9);  // mean, variance and counter of three batch-norms
}

TEST_CASE("a part of a module is frozen alone") {
  Net net;
  net.find("first.rbr_dense")->freeze();
  net.train(true);
  for (const ParameterRef& p : net.parameters()) {
    CAPTURE(p.name);
    CHECK(p.variable.requires_grad() != p.name.starts_with("first.rbr_dense."));
  }
  CHECK_FALSE(net.find("first.rbr_dense.bn")->training());
  CHECK(net.find("first.rbr_1x1.bn")->training());
}

TEST_CASE("modules are found by their path") {
  Net net;
  CHECK(net.find("") == &net);
  CHECK(net.find("second") == net.second.get());
  CHECK(net.find("second.rbr_dense.conv") != nullptr);
  for (const char* path : {"third", "second.rbr", "second.rbr_dense.conv.weight", "."})
    CHECK(net.find(path) == nullptr);
}
