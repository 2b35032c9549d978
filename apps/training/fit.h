// SPDX-License-Identifier: Apache-2.0
// What of a config depends on the machine or on the weights, found out before a run by steps of a model
// that is thrown away: how many epochs fit into a time, what batch into memory, and which rate to
// take. Of several processes all call the first two; process 0's measurement decides.
#pragma once

#include <filesystem>

#include "apps/training/train_config.h"

namespace sextant::apps {

// The epochs that end `seconds` from now, evaluations included, with the step and the evaluation as
// measured here; at least 1. Of a run by RepOptimizer the epochs of both stages, which are as many
// unless `search_epochs_given`. Prints what was measured. Throws Error where not one epoch fits.
int64_t epochs_within(const TrainConfig& config, double seconds, bool search_epochs_given = false);

// The largest batch, a multiple of 8 up to solver.nominal_batch, whose step takes at most 60% of the
// memory that is free; smaller ones where 8 is too many. The memory of a step grows linearly with the
// batch, and is measured at two. Prints what was measured. Throws Error where one image does not fit.
int64_t fitting_batch(const TrainConfig& config);

// Steps at rates from 1e-5 to 1 (Adam: 1e-7 to 0.1), each a constant factor above the last, until the
// loss is four times its lowest (Smith 2017, "Cyclical Learning Rates for Training Neural Networks").
// Writes find_lr.csv and find_lr.png into the folder and prints the rate at which the averaged loss
// falls fastest. Throws Error with several processes.
void find_rate(const TrainConfig& config, const std::filesystem::path& out);

}  // namespace sextant::apps
