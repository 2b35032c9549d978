// SPDX-License-Identifier: Apache-2.0
// Training by RepOptimizer, in two stages (optim/rep_handler.h; Ding et al., 2022):
//
//   1. hyper-search: the model with LinearAddBlocks is trained for search.epochs, its scales with
//   it;
//   2. target: the model with single convolutions is trained from the start, from weights and with
//      gradient multipliers that the scales give.
//
// The run folder is that of the target (apps/training/trainer.h), with two more things:
//
//   search/              the run folder of the first stage, an ordinary run
//   scales.safetensors   the scales of its last weights, averaged; written once, when it is over
//
// A run resumes in the first stage as long as scales.safetensors is not there, in the second once
// it is. The target's resume state holds the scales' fingerprint and refuses to continue with
// others.
#pragma once

#include <filesystem>
#include <string>

#include "apps/training/trainer.h"

namespace sextant::apps {

struct RepOptOptions {
  bool resume = false;
  std::string from = {};   // run folder, checkpoint or scales file that replaces the first stage
  int64_t stop_after = 0;  // > 0: ends after that many epochs of this call, over both stages
};

// Throws Error as train(), when `from` has no scales or others than the model needs, and when it is
// given for a run that has its scales already.
RunResult train_repopt(const TrainConfig& config, const std::filesystem::path& out,
                       const RepOptOptions& options);

}  // namespace sextant::apps
