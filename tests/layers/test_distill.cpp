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
               Catch::Contains("[1,2,2,3] and teacher [1,2,2,4]"));
  REQUIRE_THAT(error_of([&] {
                 channel_wise_distillation(student, Tensor::zeros({1, 2, 2, 3}), 0.0);
               }),
               Catch::Contains("temperature 0"));
}
