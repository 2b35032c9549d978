// SPDX-License-Identifier: Apache-2.0
#include "layers/functional.h"
#include "optim/gradient_sum.h"
#include "support/support.h"
#include "support/thread_processes.h"

namespace {

using namespace sextant;
using optim::NamedParameter;
using optim::ParameterKind;

std::vector<NamedParameter> some_parameters() {
  std::vector<NamedParameter> out;
  for (const int64_t n : {5, 3, 700, 2})
    out.push_back({"p" + std::to_string(n),
                   Variable(Tensor::zeros(Shape{n}), true),
                   ParameterKind::kWeight,
                   {}});
  out.push_back({"frozen", Variable(Tensor::zeros(Shape{4})), ParameterKind::kFrozen, {}});
  return out;
}

}  // namespace

TEST_CASE("gradients are summed over processes, zeros where one has none") {
  for (const int64_t bucket : {16, 4000, 1 << 20}) {
    INFO(bucket << " bytes");
    std::vector<int64_t> buckets(3);
    test::on_processes(3, [&](Communicator& all) {
      const auto p = some_parameters();
      optim::GradientSum sum(p, all, bucket);
      for (int step = 0; step < 2; ++step) {
        const auto value = static_cast<float>(1 + all.rank() + 10 * step);
        for (const size_t i : {size_t{0}, size_t{2}})
          p[i].variable.add_grad(Tensor::full(p[i].variable.shape(), value));
        // One process alone has this one, and only in the first step.
        if (all.rank() == 1 && step == 0)
          p[3].variable.add_grad(Tensor::full(p[3].variable.shape(), 7));
        // Memory that is someone else's too stays as it is.
        const Tensor shared = p[0].variable.grad();
        sum.sum();
        check(shared.f32()[0] == value, "a shared gradient was changed");
        const auto expected = static_cast<float>(6 + 30 * step);
        for (const size_t i : {size_t{0}, size_t{2}})
          for (const float v : p[i].variable.grad().span<float>())
            check(v == expected, "{} in step {}: {}", p[i].name, step, v);
        check(!p[1].variable.grad().defined(), "a gradient from nowhere");
        check(p[3].variable.grad().f32()[1] == (step == 0 ? 7 : 0), "the gradient of one process");
        for (const NamedParameter& q : p) q.variable.clear_grad();
      }
      buckets[static_cast<size_t>(all.rank())] = sum.buckets();
      check(sum.bytes() == 4 * 707, "{} bytes", sum.bytes());
    });
    CHECK(buckets == std::vector<int64_t>(3, bucket == 16 ? 3 : bucket == 4000 ? 1 : 1));
  }
}

TEST_CASE("a gradient that appears after the first step is refused by name") {
  std::vector<std::string> errors(2);
  test::on_processes(2, [&](Communicator& all) {
    const auto p = some_parameters();
    optim::GradientSum sum(p, all, 1000);
    p[0].variable.add_grad(Tensor::full(p[0].variable.shape(), 1));
    sum.sum();
    p[1].variable.add_grad(Tensor::full(p[1].variable.shape(), 1));
    errors[static_cast<size_t>(all.rank())] = test::error_of([&] { sum.sum(); });
  });
  for (const std::string& e : errors)
    CHECK(e == "gradients: 'p3' has one in this step and had none in the first");
}

TEST_CASE("buckets are summed while the backward pass goes on, to the same sums") {
  const auto gradients = [](bool overlap, int64_t& early) {
    std::vector<std::vector<Tensor>> out(3);
    std::vector<int64_t> counts(3);
    test::on_processes(3, [&](Communicator& all) {
      const auto p = some_parameters();
      optim::GradientSum sum(p, all, 16);
      for (int step = 0; step < 3; ++step) {
        for (int pass = 0; pass < 2; ++pass) {  // an accumulation
          // Process 1 leaves out the second step.
          if (overlap && pass == 1 && !(all.rank() == 1 && step == 1)) sum.overlap();
          std::vector<std::pair<Variable, Tensor>> roots;
          for (const size_t i : {size_t{0}, size_t{2}, size_t{3}}) {
            if (i == 3 && all.rank() == 0 && step > 0) continue;  // without a gradient here
            const Variable& v = p[i].variable;
            roots.emplace_back(scale(v, 2.0f + static_cast<float>(all.rank())),
                               test::random_tensor(v.shape(), static_cast<uint64_t>(step)));
          }
          backward(roots);
        }
        sum.sum();
        for (const size_t i : {size_t{0}, size_t{2}, size_t{3}})
          out[static_cast<size_t>(all.rank())].push_back(p[i].variable.grad().clone());
        for (const NamedParameter& q : p) q.variable.clear_grad();
      }
      counts[static_cast<size_t>(all.rank())] = sum.early();
    });
    early = counts[2];
    for (const auto& o : out)
      for (size_t i = 0; i < o.size(); ++i) CHECK(test::max_difference(o[i], out[0][i]) == 0);
    return out[0];
  };
  int64_t none = 0, some = 0;
  const auto plain = gradients(false, none), overlapped = gradients(true, some);
  CHECK(none == 0);
  CHECK(some == 6);  // three buckets in each step but the first
  for (size_t i = 0; i < plain.size(); ++i)
    CHECK(test::max_difference(plain[i], overlapped[i]) == 0);
  CHECK(test::max_difference(plain[0], Tensor::zeros(plain[0].shape())) > 1);
}
