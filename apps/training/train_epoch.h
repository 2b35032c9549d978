// SPDX-License-Identifier: Apache-2.0
// An epoch of training, whatever is trained.
#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "apps/training/run.h"
#include "apps/training/train_config.h"
#include "models/loss/detection_loss.h"

namespace sextant::apps {

// "205 train and 87 val images, 3 classes, 2900 and 1137 boxes (1 and 0 images without)".
std::string describe_data(const data::Dataset& train, const data::Dataset& val);

// Mistakes found in the labels, on stderr.
void print_report(const data::Dataset& dataset);

data::LoaderConfig loader_config(const RunConfig& config, Device device, int64_t gray_border);

// Throws Error where a loss is not finite. `epoch` from 0.
LossItems check_finite(const LossItems& items, int64_t epoch);

struct EpochContext {
  const RunConfig& config;
  int64_t epoch;  // from 0
  data::Loader& loader;
  const std::vector<std::string>& names;
  std::filesystem::path picture;  // of the first batch of the first epoch
  RunClock clock;
  double best = -1;  // mAP50-95 so far
};
struct Iteration {
  std::function<LossItems()> items;
  std::array<double, 3> lr{};  // as optim::StepValues has them
};
// Calls iterate(batch, iteration of the run) for every batch; the row has the means of the losses,
// the last rate and the seconds, and counts epochs from 1. A progress bar on stderr. The items of
// an iteration are asked for when the next has been started, so that a device has work meanwhile;
// they have to be finite.
EpochRow run_epoch(const EpochContext& context,
                   const std::function<Iteration(const data::Batch&, int64_t)>& iterate);

struct EpochSummary {
  int64_t epochs = 0;  // of the run
  double best = -1;    // mAP50-95, of ...
  int64_t best_epoch = -1;
  double seconds_left = 0;  // of the run
};
// One line on stdout.
void print_epoch(const EpochRow& row, const EpochSummary& summary);

}  // namespace sextant::apps
