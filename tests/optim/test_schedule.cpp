// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <numbers>

#include "optim/param_groups.h"
#include "optim/schedule.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::optim;

namespace {

void check_schedule(const SafeTensors& f) {
  ScheduleConfig c;
  const bool quant = f.meta("quant") == "True";
  c.shape = f.meta("lr_scheduler") == "Cosine" ? ScheduleShape::kCosine : ScheduleShape::kConstant;
  c.epochs = std::stoll(f.meta("epochs"));
  c.iterations_per_epoch = std::stoll(f.meta("iters_per_epoch"));
  c.batch = std::stoll(f.meta("batch_size"));
  // officially the rate of the config is that of bs_per_gpu images
  c.lr0 =
      std::stod(f.meta("lr0_cfg")) * static_cast<double>(c.batch) / std::stod(f.meta("bs_per_gpu"));
  c.lrf = std::stod(f.meta("lrf"));
  c.warmup_epochs = quant ? 0.0 : std::stod(f.meta("warmup_epochs"));
  c.warmup_min_iterations = quant ? 0 : 1000;  // the official floor
  c.warmup_bias_lr = std::stod(f.meta("warmup_bias_lr"));
  c.momentum = std::stod(f.meta("momentum"));
  c.warmup_momentum = std::stod(f.meta("warmup_momentum"));
  c.warm_momentum = f.meta("optim") == "SGD";
  const Schedule schedule(c);
  CHECK(schedule.warmup_iterations() == std::stoll(f.meta("warmup_stepnum")));
  CHECK(c.lr0 == Approx(std::stod(f.meta("lr0_scaled"))).epsilon(1e-15));
  CHECK(scaled_weight_decay(std::stod(f.meta("weight_decay_cfg")), c.batch) ==
        Approx(std::stod(f.meta("weight_decay_scaled"))).epsilon(1e-14));

  const Tensor lf = f.at("output.lf");
  double worst_factor = 0;
  for (int64_t e = 0; e < lf.numel(); ++e) {
    worst_factor = std::max(
        worst_factor, std::abs(schedule.factor(static_cast<double>(e)) - lf.data<double>()[e]));
  }
  const int64_t rows = f.at("output.lr").dim(0);
  REQUIRE(rows == c.epochs * c.iterations_per_epoch);
  const double* lr = f.at("output.lr").data<double>();
  const double* momentum = f.at("output.momentum").data<double>();
  const double* accumulate = f.at("output.accumulate").data<double>();
  const int64_t* stepped = f.at("output.optimizer_stepped").data<int64_t>();
  double worst_lr = 0;
  double worst_momentum = 0;
  int64_t wrong_accumulate = 0;
  int64_t wrong_step = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const StepValues v = schedule.at(i);
    for (size_t g = 0; g < 3; ++g) {
      const auto at = static_cast<size_t>(i) * 3 + g;
      worst_lr = std::max(worst_lr, std::abs(v.lr[g] - lr[at]));
      worst_momentum = std::max(worst_momentum, std::abs(v.momentum - momentum[at]));
    }
    wrong_accumulate += static_cast<double>(v.accumulate) != accumulate[i];
    wrong_step += static_cast<int64_t>(v.step) != stepped[i];
  }
  INFO("factor " << worst_factor << ", lr " << worst_lr << ", momentum " << worst_momentum);
  CHECK(worst_factor < 1e-15);
  CHECK(worst_lr < 1e-16);
  CHECK(worst_momentum < 1e-15);
  CHECK(wrong_accumulate == 0);
  CHECK(wrong_step == 0);
}

}  // namespace

TEST_CASE("schedules agree with the official engine at every iteration") {
  for (const std::string& name : test::fixture_names("optim/schedule_")) {
    CAPTURE(name);
    check_schedule(*test::fixture(name));
  }
}

TEST_CASE("a schedule without floor, by hand") {
  // 10 epochs of 4 iterations, warm-up 1.5 epochs = 6 iterations, ending in epoch 1.
  ScheduleConfig c;
  c.epochs = 10;
  c.iterations_per_epoch = 4;
  c.lr0 = 0.1;
  c.lrf = 0.1;
  c.warmup_epochs = 1.5;
  c.batch = 16;
  const Schedule s(c);
  REQUIRE(s.warmup_iterations() == 6);
  const auto factor = [](double e) {
    return (1 - std::cos(e * std::numbers::pi / 10)) / 2 * (0.1 - 1) + 1;
  };
  CHECK(s.at(0).lr[0] == 0.0);
  CHECK(s.at(0).lr[2] == 0.1);
  CHECK(s.at(0).momentum == 0.8);
  CHECK(s.at(3).lr[1] == Approx(0.05 * factor(0)));
  CHECK(s.at(3).momentum == Approx((0.8 + 0.937) / 2));
  CHECK(s.at(5).lr[1] == Approx(0.1 * factor(1) * 5 / 6));
  CHECK(s.at(6).lr[2] == Approx(0.1 * factor(1)));
  CHECK(s.at(7).lr[1] == Approx(0.1 * factor(1)));  // stays until the epoch's end
  CHECK(s.at(8).lr[1] == Approx(0.1 * factor(1)));  // lags
  CHECK(s.at(12).lr[1] == Approx(0.1 * factor(2)));
  CHECK(s.at(39).lr[0] == Approx(0.1 * factor(8)));
  CHECK(s.at(39).momentum == 0.937);
  // Accumulation 1, 1.5 -> 2, 2, 2.5 -> 2, 3, 3.5 -> 4, 4, then 4; halves to even.
  const std::array<int64_t, 9> accumulate{1, 2, 2, 2, 3, 4, 4, 4, 4};
  const std::array<bool, 16> step{true,  false, true, false, false, false, true, false,
                                  false, false, true, false, false, false, true, false};
  for (size_t i = 0; i < accumulate.size(); ++i) {
    INFO(i);
    CHECK(s.at(static_cast<int64_t>(i)).accumulate == accumulate[i]);
  }
  for (size_t i = 0; i < step.size(); ++i) {
    INFO(i);
    CHECK(s.at(static_cast<int64_t>(i)).step == step[i]);
  }

  c.lag_one_epoch = false;
  CHECK(Schedule(c).at(8).lr[1] == Approx(0.1 * factor(2)));
  c.warmup_iterations = 3;
  CHECK(Schedule(c).warmup_iterations() == 3);
  c.warmup_min_iterations = 9;
  CHECK(Schedule(c).warmup_iterations() == 9);
}

TEST_CASE("no warm-up, accumulation across epochs") {
  ScheduleConfig c;
  c.shape = ScheduleShape::kConstant;
  c.epochs = 3;
  c.iterations_per_epoch = 3;
  c.lr0 = 0.5;
  c.warmup_epochs = 0;
  c.batch = 32;
  const Schedule s(c);
  for (int64_t i = 0; i < 9; ++i) {
    const StepValues v = s.at(i);
    CHECK(v.lr == std::array<double, 3>{0.5, 0.5, 0.5});
    CHECK(v.momentum == 0.937);
    CHECK(v.accumulate == 2);
    CHECK(v.step == (i % 2 == 1));
  }
}

TEST_CASE("the schedule refuses invalid values") {
  CHECK(from_name<ScheduleShape>("cosine") == ScheduleShape::kCosine);
  CHECK(from_name<ScheduleShape>("constant") == ScheduleShape::kConstant);
  CHECK(test::error_of([] { from_name<ScheduleShape>("step"); }) ==
        "unknown schedule 'step'; use cosine or constant");
  CHECK(test::error_of([] { Schedule({.epochs = 0}); }) == "schedule: epochs is 0, must be > 0");
  CHECK(test::error_of([] { Schedule({.iterations_per_epoch = 0}); }) ==
        "schedule: iterations per epoch is 0, must be > 0");
  CHECK(test::error_of([] { Schedule({.batch = 0}); }) ==
        "schedule: batch is 0 and nominal batch 64, both must be > 0");
}
