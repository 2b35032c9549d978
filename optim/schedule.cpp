// SPDX-License-Identifier: Apache-2.0
#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "optim/param_groups.h"

namespace sextant::optim {
namespace {

// The value at x of the line from (0, first) to (length, last), exact at both ends.
double ramp(int64_t x, int64_t length, double first, double last) {
  if (x >= length) return last;
  return (last - first) / static_cast<double>(length) * static_cast<double>(x) + first;
}

}  // namespace

Schedule::Schedule(const ScheduleConfig& config) : config_(config) {
  check(config.epochs > 0, "schedule: epochs is {}, must be > 0", config.epochs);
  check(config.iterations_per_epoch > 0, "schedule: iterations per epoch is {}, must be > 0",
        config.iterations_per_epoch);
  check(config.batch > 0 && config.nominal_batch > 0,
        "schedule: batch is {} and nominal batch {}, both must be > 0", config.batch,
        config.nominal_batch);
  check(config.warmup_epochs >= 0 && config.warmup_min_iterations >= 0,
        "schedule: warm-up of {} epochs, at least {} iterations, must not be negative",
        config.warmup_epochs, config.warmup_min_iterations);
  warmup_ =
      config.warmup_iterations >= 0
          ? config.warmup_iterations
          : std::llrint(config.warmup_epochs * static_cast<double>(config.iterations_per_epoch));
  warmup_ = std::max(warmup_, config.warmup_min_iterations);
  if (warmup_ == 0) return;
  warmup_steps_.resize(static_cast<size_t>(warmup_) + 1);
  for (int64_t i = 0; i <= warmup_; ++i) {
    if (i - last_warmup_step_ < accumulate_at(i)) continue;
    warmup_steps_[static_cast<size_t>(i)] = true;
    last_warmup_step_ = i;
  }
}

double Schedule::factor(double epoch) const {
  if (config_.shape == ScheduleShape::kConstant) return 1.0;
  const double turn = epoch * std::numbers::pi / static_cast<double>(config_.epochs);
  return (1.0 - std::cos(turn)) / 2.0 * (config_.lrf - 1.0) + 1.0;
}

int64_t Schedule::accumulate_at(int64_t iteration) const {
  if (warmup_ == 0 || iteration > warmup_) {
    return accumulation(config_.batch, config_.nominal_batch);
  }
  const double whole =
      static_cast<double>(config_.nominal_batch) / static_cast<double>(config_.batch);
  return std::max<int64_t>(1, std::llrint(ramp(iteration, warmup_, 1.0, whole)));
}

StepValues Schedule::at(int64_t iteration) const {
  check(iteration >= 0, "schedule: iteration {} is negative", iteration);
  const int64_t epoch = iteration / config_.iterations_per_epoch;
  StepValues v;
  v.accumulate = accumulate_at(iteration);
  v.momentum = config_.momentum;
  if (warmup_ > 0 && iteration <= warmup_) {
    const double goal = config_.lr0 * factor(static_cast<double>(epoch));
    const double rise = ramp(iteration, warmup_, 0.0, goal);
    v.lr = {rise, rise, ramp(iteration, warmup_, config_.warmup_bias_lr, goal)};
    if (config_.warm_momentum) {
      v.momentum = ramp(iteration, warmup_, config_.warmup_momentum, config_.momentum);
    }
    v.step = warmup_steps_[static_cast<size_t>(iteration)];
    return v;
  }
  const bool warmup_ends_here = warmup_ > 0 && warmup_ / config_.iterations_per_epoch == epoch;
  const bool lags = config_.lag_one_epoch && !warmup_ends_here;
  const int64_t rated = lags ? std::max<int64_t>(epoch - 1, 0) : epoch;
  v.lr.fill(config_.lr0 * factor(static_cast<double>(rated)));
  // Every `accumulate` iterations after warm-up's last step; at once where the accumulation has
  // just decreased.
  const int64_t first = std::max(last_warmup_step_ + v.accumulate, warmup_ > 0 ? warmup_ + 1 : 0);
  v.step = iteration >= first && (iteration - first) % v.accumulate == 0;
  return v;
}

}  // namespace sextant::optim
