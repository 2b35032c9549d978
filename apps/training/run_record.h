// SPDX-License-Identifier: Apache-2.0
// What a run writes about itself, for people and their tools; training reads none of it.
//
//   results.csv     a row for each epoch, with Ultralytics' columns first
//   log.jsonl       the same, a JSON object in each line
//   events.out.tfevents.sextant   the same, for TensorBoard
//   loss.png, map.png             by epoch
//   labels.png                    of the training split
//   evaluation.json and its pictures   of the best evaluation so far (apps/reporting)
//   report.html     all of it in one file, after each evaluation
//
// docs/results.md has the columns.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/training/run_folder.h"
#include "data/dataset/dataset.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {

// "epoch,time,train/box_loss,..."; cells of what was not measured are empty. The groups of rates are
// Ultralytics': biases, weights, batch-norm weights. Losses are weighted, as they are trained on.
std::string results_text(const std::vector<EpochRow>& rows);

class RunRecord {
 public:
  // Both have to outlive this.
  RunRecord(const RunFolder& folder, const data::Dataset& train) : folder_(folder), train_(train) {}

  // The evaluation of an epoch, the best so far.
  void keep_best(const deploy::EvalResult& result, const data::Dataset& val, int64_t epoch) const;
  // Files with all rows. The log and the events of this process's later epochs are appended, so that
  // what follows them sees them.
  void write(const std::vector<EpochRow>& rows);

 private:
  void write_logs(const std::vector<EpochRow>& rows);

  const RunFolder& folder_;
  const data::Dataset& train_;
  size_t logged_ = 0;  // rows in the log and the events; 0: nothing written by this process
};

// Loss and mAP by epoch as one picture each: <folder>/loss.png, <folder>/map.png.
void write_curves(const std::filesystem::path& folder, const std::vector<EpochRow>& rows);

}  // namespace sextant::apps
