// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "layers/distill.h"
#include "support/gradcheck.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::test;

TEST_CASE("channel-wise distillation: value of a known case") {
  // One channel of two pixels: the student says 1/2 1/2, the teacher 1/4 3/4.
  const Variable student(Tensor::full({1, 1, 2, 1}, 0.0f));
  const Tensor teacher =
      Tensor::from<float>({1, 1, 2, 1}, std::vector<float>{0.0f, std::log(3.0f)});
  const double want = 0.25 * std::log(0.5) + 0.75 * std::log(1.5);
  REQUIRE(channel_wise_distillation(student, teacher).data().item() == Approx(want));
}

TEST_CASE("channel-wise distillation has the gradient of its value") {
  const Tensor student = random_tensor({2, 3, 4, 5}, 1, -2, 2);
  const Tensor teacher = random_tensor({2, 3, 4, 5}, 2, -2, 2);
  for (const double temperature : {1.0, 4.0}) {
    const auto f = [&](const std::vector<Variable>& in) {
      return channel_wise_distillation(in[0], teacher, temperature);
    };
    GradcheckOptions options;
    options.step = 0.1;  // the value is one float, whose rounding a smaller step would show
    REQUIRE(gradcheck(f, {student}, options) < 1e-4);
  }
}

TEST_CASE("channel-wise distillation names shapes that differ") {
  const Variable student(Tensor::zeros({1, 2, 2, 3}));
  REQUIRE_THAT(error_of([&] {
                 channel_wise_distillation(student, Tensor::zeros({1, 2, 2, 4}));
               }),
               Contains("[1,2,2,3] and teacher [1,2,2,4]"));
  REQUIRE_THAT(error_of([&] {
                 channel_wise_distillation(student, Tensor::zeros({1, 2, 2, 3}), 0.0);
               }),
               Contains("temperature 0"));
}

TEST_CASE("score distillation: value, gradient, one class, agreement") {
  const Variable even(Tensor::full({1, 1, 1, 1}, 0.0f));
  const Tensor sure = Tensor::full({1, 1, 1, 1}, std::log(3.0f));  // 3/4
  const double want = 0.75 * std::log(1.5) + 0.25 * std::log(0.5);
  CHECK(score_distillation({even}, {sure}).data().item() == Approx(want));  // sum t < 1
  CHECK(score_distillation({Variable(sure)}, {sure}).data().item() == Approx(0).margin(1e-9));

  const std::vector<Tensor> teacher{random_tensor({2, 3, 4, 2}, 1, -4, 4),
                                    random_tensor({2, 2, 2, 2}, 2, -4, 4)};
  for (const double temperature : {1.0, 3.0}) {
    GradcheckOptions options;
    options.step = 0.1;
    const auto f = [&](const std::vector<Variable>& in) {
      return score_distillation(in, teacher, temperature);
    };
    CHECK(gradcheck(f, {random_tensor({2, 3, 4, 2}, 3, -4, 4), random_tensor({2, 2, 2, 2}, 4)},
                    options) < 1e-4);
  }
  const Variable extreme(Tensor::full({1, 1, 1, 2}, 500.0f), true);
  const Variable value = score_distillation({extreme}, {Tensor::full({1, 1, 1, 2}, -500.0f)});
  CHECK(std::isfinite(value.data().item()));
  backward(value);
  CHECK(extreme.grad().f32()[0] == Approx(1.0));
  CHECK(error_of([&] { score_distillation({even}, {}); }).find("1 maps") != std::string::npos);
}
