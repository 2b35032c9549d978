// The training loop.
//
// A run folder holds: config.json (resolved), results.csv (a row per epoch), last.safetensors and
// best.safetensors (weights of the moving average, official names), model.safetensors (best, fused
// for deployment, written at the end), loss.png and map.png (curves), train_batch.png (what the
// network saw first), and resume.safetensors (everything that the
// next epoch goes on from: weights, averages, momenta). Each is written
// under a temporary name and renamed, resume.safetensors last, so that a run can be killed at any
// moment and resumed from its last finished epoch, bit for bit.
#pragma once

#include <filesystem>
#include <memory>

#include "apps/training/train_config.h"
#include "optim/rep_scales.h"

namespace sextant::apps {

struct TrainResult {
  double best_map50_95 = -1;
  double best_map50 = -1;
  int64_t best_epoch = -1;
  double seconds_per_epoch = 0;
  int64_t trained = 0;    // epochs of this call
  bool complete = false;  // whether none is left
};

// Trains into `out`. With `resume` goes on with the run there (from the start when no epoch was
// finished); without, throws Error when `out` already holds a run. Throws Error for a resumed run
// whose config differs, naming the key, and when the loss stops being finite.
// `stop_after` > 0 ends after that many epochs of this call, as if killed there (for tests).
// `scales` makes it the target run of RepOptimizer, which is what "training.mode": "repopt" needs;
// apps/training/repopt.h finds them and calls this. Throws Error naming the block when they do not
// fit.
TrainResult train(const TrainConfig& config, const std::filesystem::path& out, bool resume,
                  int64_t stop_after = 0, const optim::RepScales* scales = nullptr);

}  // namespace sextant::apps
