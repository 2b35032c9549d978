// SPDX-License-Identifier: Apache-2.0
// The optimizer and the schedule that a config asks for.
#pragma once

#include <memory>
#include <vector>

#include "apps/training/train_config.h"
#include "models/yolov6_config.h"
#include "optim/optimizer.h"
#include "optim/rep_handler.h"
#include "optim/rep_scales.h"
#include "optim/schedule.h"

namespace sextant::apps {

// Weight decay is scaled to the images of a step. Parameters with a multiplier keep it.
std::unique_ptr<optim::Optimizer> make_optimizer(
    const RunConfig& config, const std::vector<optim::NamedParameter>& parameters);

// The rate changes from epoch to epoch, as officially, or with `by_iteration` at every iteration.
optim::Schedule make_schedule(const RunConfig& config, int64_t iterations_per_epoch,
                              bool by_iteration);

// The multipliers that go with the optimizer.
optim::RepRule rep_rule(const SolverConfig& solver);

// What the scales of a model's hyper-search look like: names and shapes, values of a start.
optim::RepScales scales_of_search(Yolov6Config model);

}  // namespace sextant::apps
