// SPDX-License-Identifier: Apache-2.0
// The autograd graph itself.
#include "core/variable.h"
#include "support/gradcheck.h"
#include "support/support.h"

namespace {

using namespace sextant;

Tensor values(std::vector<float> v) {
  return Tensor::from(Shape{static_cast<int64_t>(v.size())}, v);
}

Variable multiply(const Variable& a, const Variable& b) {
  const auto times = [](const Tensor& x, const Tensor& y) {
    Tensor z(x.shape());
    for (int64_t i = 0; i < z.numel(); ++i) z.f32()[i] = x.f32()[i] * y.f32()[i];
    return z;
  };
  return make_result("multiply", times(a.data(), b.data()), {a, b},
                     [=, x = a.data(), y = b.data()](const Tensor& g, const std::vector<bool>&) {
                       return std::vector<Tensor>{times(g, y), times(g, x)};
                     });
}

}  // namespace

TEST_CASE("gradients of a variable used several times add up") {
  const Variable x(values({2, -3}), true);
  const Variable y = multiply(multiply(x, x), x);  // x^3
  backward({{y, values({1, 1})}});
  CHECK(x.grad().f32()[0] == 12);
  CHECK(x.grad().f32()[1] == 27);
  backward({{multiply(x, x), values({1, 1})}});  // + 2x: accumulation over two passes
  CHECK(x.grad().f32()[0] == 16);
  x.clear_grad();
  CHECK(!x.grad().defined());
}

TEST_CASE("adding up gradients never writes into a shared tensor") {
  const Tensor shared = values({1, 2});
  const Variable x(values({5, 7}), true);
  const auto identity = [&] {
    return make_result("identity", x.data(), {x}, [](const Tensor& g, const std::vector<bool>&) {
      return std::vector<Tensor>{g};
    });
  };
  const Variable a = identity(), b = identity();
  backward({{a, shared}, {b, shared}});
  CHECK(x.grad().f32()[0] == 2);
  CHECK(x.grad().f32()[1] == 4);
  CHECK(shared.f32()[0] == 1);
  CHECK(shared.f32()[1] == 2);
}

TEST_CASE("only variables that need a gradient get one, and nothing else is recorded") {
  const Variable x(values({2}), true), c(values({3}));
  const Variable y = multiply(x, c);
  CHECK(y.requires_grad());
  backward({{y, values({1})}});
  CHECK(x.grad().f32()[0] == 3);
  CHECK(!c.grad().defined());
  CHECK(!multiply(c, c).requires_grad());
  const NoGrad guard;
  CHECK(!multiply(x, c).requires_grad());
}

TEST_CASE("a graph is consumed by backward") {
  const Variable x(values({2}), true);
  const Variable y = multiply(x, x);
  backward({{y, values({1})}});
  CHECK(test::error_of([&] {
          backward({{y, values({1})}});
        }).find("consumed") != std::string::npos);
  CHECK(test::error_of([&] {
          backward(Variable(values({1, 2}), true));
        }) == "backward: shape [2] is not a scalar");
}

TEST_CASE("what a node saved is freed as backward passes it") {
  const Variable x(values({2}), true);
  std::weak_ptr<int> watched;
  Variable y;
  {
    auto token = std::make_shared<int>(1);
    watched = token;
    y = make_result("watch", x.data(), {x}, [token](const Tensor& g, const std::vector<bool>&) {
      return std::vector<Tensor>{g};
    });
  }
  CHECK(!watched.expired());
  backward({{y, values({1})}});
  CHECK(watched.expired());
}

TEST_CASE("a very deep graph is walked and freed without recursion") {
  const Variable x(values({1}), true);
  {
    Variable y = x;
    for (int i = 0; i < 200000; ++i)
      y = make_result("step", x.data(), {y}, [](const Tensor& g, const std::vector<bool>&) {
        return std::vector<Tensor>{g};
      });
    Variable unused = y;
    backward({{y, values({3})}});
    CHECK(x.grad().f32()[0] == 3);
  }
  Variable z = x;
  for (int i = 0; i < 200000; ++i)
    z = make_result("step", x.data(), {z}, [](const Tensor& g, const std::vector<bool>&) {
      return std::vector<Tensor>{g};
    });
  z = Variable();  // never used: freed all the same
  CHECK(!z.defined());
}

TEST_CASE("the gradient check finds a wrong gradient") {
  const auto wrong = [](const std::vector<Variable>& v) {
    return make_result("wrong", multiply(v[0], v[0]).data(), {v[0]},
                       [x = v[0].data()](const Tensor& g, const std::vector<bool>&) {
                         Tensor d(g.shape());
                         for (int64_t i = 0; i < d.numel(); ++i)
                           d.f32()[i] = 1.9f * x.f32()[i] * g.f32()[i];
                         return std::vector<Tensor>{d};
                       });
  };
  const auto right = [](const std::vector<Variable>& v) { return multiply(v[0], v[0]); };
  const Tensor x = test::random_tensor(Shape{8}, 3, 0.5, 1.0);
  CHECK(test::gradcheck(wrong, {x}) > 0.03);
  CHECK(test::gradcheck(right, {x}) < 1e-3);
}
