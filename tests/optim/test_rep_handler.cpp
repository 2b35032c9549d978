// SPDX-License-Identifier: Apache-2.0
// Handlers: the single operator computes what the branches compute; mistakes are named.
#include "layers/blocks.h"
#include "optim/parameters.h"
#include "optim/rep_handler.h"

using namespace sextant;
using namespace sextant::optim;

namespace {

// y[...,c] * scale[c], added into `sum`.
void add_scaled(const Tensor& y, const Tensor& scale, const Tensor& sum) {
  const int64_t channels = scale.numel();
  for (int64_t i = 0; i < y.numel(); ++i) sum.f32()[i] += y.f32()[i] * scale.f32()[i % channels];
}

}  // namespace

TEST_CASE("the re-initialised operator computes the sum of the branches") {
  struct Case {
    int64_t in, out, kernel, stride, groups;
    bool identity;
  };
  const Case c =
      GENERATE(Case{5, 7, 3, 1, 1, false}, Case{6, 6, 3, 1, 1, true}, Case{6, 10, 3, 2, 1, false},
               Case{8, 8, 5, 1, 2, true}, Case{6, 6, 7, 1, 6, true}, Case{4, 4, 1, 1, 1, true});
  INFO("kernel " << c.kernel << ", stride " << c.stride << ", groups " << c.groups);
  const Tensor x = test::random_tensor({2, 9, 9, c.in}, 3);
  const Tensor target = test::random_tensor({c.out, c.kernel, c.kernel, c.in / c.groups}, 4);
  RepHandler handler{"w", c.groups, {}};
  Tensor sum;
  for (int64_t k = 1; k <= c.kernel; k += 2) {
    const auto seed = static_cast<uint64_t>(10 + k);
    const Tensor scale = test::random_scales(c.out, seed);
    const Tensor w =
        k == c.kernel ? target : test::random_tensor({c.out, k, k, c.in / c.groups}, seed + 50);
    handler.branches.push_back(conv_branch(k, scale, k == c.kernel ? Tensor() : w));
    const Tensor y = conv2d(Variable(x), Variable(w), {}, {c.stride, (k - 1) / 2, c.groups}).data();
    if (!sum.defined()) sum = Tensor::zeros(y.shape());
    add_scaled(y, scale, sum);
  }
  if (c.identity) {
    handler.branches.push_back(identity_branch(test::random_scales(c.out, 99)));
    add_scaled(x, handler.branches.back().scale, sum);
  }
  Rng rng(1);
  const Tensor weight = reinitialised(handler, target, rng);
  const Tensor y =
      conv2d(Variable(x), Variable(weight), {}, {c.stride, (c.kernel - 1) / 2, c.groups}).data();
  CHECK(test::relative_difference(y, sum) < 1e-6);
}

TEST_CASE("multipliers add up the branches that reach an element") {
  const auto values = [](float a, float b) { return Tensor::from<float>({2}, {a, b}); };
  const RepHandler handler{"w",
                           1,
                           {conv_branch(5, values(2, 3)), conv_branch(3, values(-0.5f, 0.25f)),
                            conv_branch(1, values(4, 5)), identity_branch(values(7, 8))}};
  for (const RepRule rule : {RepRule::kSgd, RepRule::kAdam}) {
    const Tensor m = multipliers(handler, {2, 5, 5, 2}, rule);
    const auto at = [&](int64_t o, int64_t y, int64_t x, int64_t i) {
      return m.f32()[((o * 5 + y) * 5 + x) * 2 + i];
    };
    const bool sgd = rule == RepRule::kSgd;
    CHECK(at(0, 0, 0, 1) == (sgd ? 4.0f : 2.0f));
    CHECK(at(0, 4, 2, 0) == (sgd ? 4.0f : 2.0f));
    CHECK(at(0, 1, 3, 0) == (sgd ? 4.25f : 1.5f));
    CHECK(at(1, 3, 2, 0) == (sgd ? 9.0625f : 3.25f));
    CHECK(at(0, 2, 2, 1) == (sgd ? 20.25f : 5.5f));
    CHECK(at(0, 2, 2, 0) == (sgd ? 21.25f : 6.5f));
    CHECK(at(1, 2, 2, 0) == (sgd ? 34.0625f : 8.25f));
    CHECK(at(1, 2, 2, 1) == (sgd ? 35.0625f : 9.25f));
  }
}

TEST_CASE("kernels that are not given are drawn, the same for the same seed") {
  const Tensor target = test::random_tensor({4, 3, 3, 4}, 1);
  const Tensor one = Tensor::full({4}, 1.0f);
  const RepHandler handler{"w", 1, {conv_branch(3, one), conv_branch(1, one)}};
  Rng first(7), second(7), third(8);
  const Tensor a = reinitialised(handler, target, first);
  CHECK(test::max_difference(a, reinitialised(handler, target, second)) == 0.0);
  CHECK(test::max_difference(a, reinitialised(handler, target, third)) > 0.0);
  // Only the centre differs from the target, by a kernel of PyTorch's default range, +-1/sqrt(4).
  double largest = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double d = std::abs(a.f32()[i] - target.f32()[i]);
    if (i / 4 % 9 != 4) CHECK(d == 0.0);
    largest = std::max(largest, d);
  }
  CHECK(largest > 0.2);
  CHECK(largest <= 0.5001);
}

TEST_CASE("parameters take start and multiplier from their handler") {
  std::vector<NamedParameter> parameters = {
      named_parameter("a.conv.weight", Variable(test::random_tensor({4, 3, 3, 4}, 1), true)),
      named_parameter("b.conv.weight", Variable(test::random_tensor({4, 3, 3, 4}, 2), true))};
  const Tensor before = parameters[0].variable.data().clone();
  const float* memory = parameters[1].variable.f32();
  const std::vector<RepHandler> handlers = {
      {"b.conv.weight", 1, {conv_branch(3, Tensor::full({4}, 2.0f))}}};
  const Tensor expected = parameters[1].variable.data().clone();
  for (float& v : expected.span<float>()) v *= 2.0f;
  Rng rng(1);
  reinitialise(handlers, parameters, rng);
  set_multipliers(handlers, parameters, RepRule::kSgd);
  CHECK(parameters[1].variable.f32() == memory);
  CHECK(test::max_difference(parameters[1].variable.data(), expected) == 0.0);
  CHECK(test::max_difference(parameters[1].multiplier, Tensor::full({4, 3, 3, 4}, 4.0f)) == 0.0);
  CHECK(test::max_difference(parameters[0].variable.data(), before) == 0.0);
  CHECK_FALSE(parameters[0].multiplier.defined());
  const std::string absent = test::error_of([&] {
    set_multipliers({{"c.weight", 1, handlers[0].branches}}, parameters, RepRule::kSgd);
  });
  CHECK(absent == "rep optimizer: parameter 'c.weight' is missing, or claimed by two handlers");
  CHECK(test::error_of([&] {
          reinitialise({handlers[0], handlers[0]}, parameters, rng);
        }) == "rep optimizer: parameter 'b.conv.weight' is missing, or claimed by two handlers");
}

TEST_CASE("a handler that does not fit its weight is refused") {
  const Tensor s4 = Tensor::full({4}, 1.0f);
  const auto error = [](std::vector<LinearBranch> branches, const Shape& target) {
    return test::error_of([&] {
      multipliers({"w", 1, std::move(branches)}, target, RepRule::kSgd);
    });
  };
  CHECK(error({conv_branch(1, s4)}, {4, 2, 2, 4}) ==
        "rep optimizer: 'w' is [4,2,2,4], needs [O,k,k,I] with k odd");
  CHECK(error({}, {4, 3, 3, 4}) == "rep optimizer: 'w' has no branches");
  CHECK(error({conv_branch(1, Tensor::full({5}, 1.0f))}, {4, 3, 3, 4}) ==
        "rep optimizer: a scale of 'w' is [5], needs F32 [4]");
  CHECK(error({conv_branch(1, Tensor())}, {4, 3, 3, 4}) ==
        "rep optimizer: a scale of 'w' is undefined, needs F32 [4]");
  CHECK(error({conv_branch(5, s4)}, {4, 3, 3, 4}) ==
        "rep optimizer: a branch of 'w' [4,3,3,4] has kernel 5, needs an odd one that fits");
  CHECK(error({conv_branch(2, s4)}, {4, 3, 3, 4}) ==
        "rep optimizer: a branch of 'w' [4,3,3,4] has kernel 2, needs an odd one that fits");
  CHECK(error({identity_branch(s4)}, {4, 3, 3, 8}) ==
        "rep optimizer: 'w' [4,3,3,8] (groups 1) cannot hold an identity");
  CHECK(error({conv_branch(1, s4, Tensor::zeros({4, 1, 1, 3}))}, {4, 3, 3, 4}) ==
        "rep optimizer: the 1x1 branch of 'w' starts from [4,1,1,3], needs [4,1,1,4]");
}
