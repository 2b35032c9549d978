// SPDX-License-Identifier: Apache-2.0
// Training a detector.
//
// The files of its run folder (apps/training/run_folder.h): last.safetensors and best.safetensors
// are checkpoints, weights of the moving average under the official names; when the run is
// complete, model.safetensors is the best one, fused for deployment.
#pragma once

#include <filesystem>
#include <memory>

#include "apps/training/run.h"
#include "optim/rep_scales.h"

namespace sextant::apps {

// The task of this run, with `scales` as below. Both have to outlive it. `resuming`: its weights come from
// the run's folder.
std::unique_ptr<TrainingTask> make_detector_task(const TrainConfig& config, const RunData& data,
                                                 bool resuming = false,
                                                 const optim::RepScales* scales = nullptr);

// Trains into `out`. With `resume` it continues the run there (from the start when no epoch was
// finished); without, throws Error when `out` already holds a run. Throws Error for a resumed run
// whose config differs, naming the key, and when the loss stops being finite.
// `stop_after` > 0 ends after that many epochs of this call, as if killed there (for tests).
// `scales` makes it the target run of RepOptimizer, which is what "training.mode": "repopt" needs;
// apps/training/repopt.h finds them and calls this. Throws Error naming the block when they do not
// fit.
RunResult train(const TrainConfig& config, const std::filesystem::path& out, bool resume,
                int64_t stop_after = 0, const optim::RepScales* scales = nullptr);

}  // namespace sextant::apps
