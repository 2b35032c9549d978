// SPDX-License-Identifier: Apache-2.0
// Learning rate, momentum and accumulation of every iteration, as in the official YOLOv6
// (core/engine.py update_optimizer, solver/build.py build_lr_scheduler).
//
// With i the iteration from 0, e = i / iterations_per_epoch its epoch, W the warm-up's iterations:
//
//   factor(e)   cosine: ((1 - cos(pi e / epochs)) / 2) (lrf - 1) + 1;   constant: 1
//   i <= W      lr rises linearly from 0 (biases: from warmup_bias_lr) to lr0 * factor(e),
//               momentum from warmup_momentum to momentum, the accumulation from 1 to
//               nominal_batch / batch, rounded
//   i >  W      lr = lr0 * factor(e - 1): after warm-up the official rate lags one epoch. In the
//               epoch in which warm-up ends it stays at what warm-up reached, lr0 * factor(e).
//
// The optimizer steps when the number of iterations since its last step reaches the accumulation.
// The count runs across epoch boundaries.
//
// The official warm-up is at least 1,000 iterations long, which on a small dataset is the whole
// run. Here that minimum exists only as the option warmup_min_iterations.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/enum_names.h"

namespace sextant::optim {

enum class ScheduleShape { kCosine, kConstant };
constexpr auto enum_names(ScheduleShape) {
  return make_enum_names<ScheduleShape>(
      "schedule", {{ScheduleShape::kCosine, "cosine"}, {ScheduleShape::kConstant, "constant"}});
}

struct ScheduleConfig {
  ScheduleShape shape = ScheduleShape::kCosine;
  int64_t epochs = 1;
  int64_t iterations_per_epoch = 1;
  double lr0 = 0.01;               // as used, independent of the batch
  double lrf = 0.01;               // final factor of the cosine
  double warmup_epochs = 3.0;      // any fraction; 0 for none
  int64_t warmup_iterations = -1;  // used instead of warmup_epochs when not negative
  int64_t warmup_min_iterations = 0;
  double warmup_bias_lr = 0.1;
  double momentum = 0.937;
  double warmup_momentum = 0.8;
  bool warm_momentum = true;  // false for Adam, whose beta1 is never warmed up
  int64_t batch = 64;
  int64_t nominal_batch = 64;
  bool lag_one_epoch = true;  // false: factor(e) after warm-up too
};

struct StepValues {
  std::array<double, 3> lr{};  // batch-norm weights, weights, biases (param_groups.h)
  double momentum = 0;
  int64_t accumulate = 1;
  bool step = true;  // whether the optimizer steps at the end of this iteration
};

class Schedule {
 public:
  // Throws Error when epochs, iterations_per_epoch, batch or nominal_batch is not positive, or the
  // warm-up is negative.
  explicit Schedule(const ScheduleConfig& config);

  // A pure function of the iteration, so a resumed run needs no state. iteration >= 0; it may lie
  // past the end.
  StepValues at(int64_t iteration) const;

  double factor(double epoch) const;
  // warmup_iterations when given, else round(warmup_epochs * iterations_per_epoch); in both cases
  // at least warmup_min_iterations.
  int64_t warmup_iterations() const { return warmup_; }
  const ScheduleConfig& config() const { return config_; }

 private:
  int64_t accumulate_at(int64_t iteration) const;

  ScheduleConfig config_;
  int64_t warmup_ = 0;
  // Accumulation varies during warm-up, so the iterations that step are computed once.
  std::vector<bool> warmup_steps_;
  int64_t last_warmup_step_ = -1;
};

}  // namespace sextant::optim
