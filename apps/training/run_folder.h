// SPDX-License-Identifier: Apache-2.0
// The folder of a run and the files in it that only training reads and writes.
//
//   config.json         the config as resolved
//   train_batch.png     what the network saw first
//   last.safetensors, best.safetensors   the model, as the task writes it (apps/training/run.h)
//   epoch_10.safetensors ...   the same after each 'save_period' epochs
//   resume.safetensors  everything that the next epoch starts from: weights, averages, momenta
//
// and what a run writes about itself (apps/training/run_record.h).
//
// Each is written under a temporary name and renamed, resume.safetensors last, so that a run can be
// killed at any moment and resumed from its last finished epoch, bit for bit.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/folder_lock.h"
#include "data/loading/loader.h"
#include "layers/module.h"
#include "models/loss/detection_loss.h"
#include "optim/ema.h"
#include "optim/grad_scaler.h"
#include "optim/sgd.h"

namespace sextant::apps {

// Of a config as resolved: paths that an earlier version wrote as they were given, relative to the
// current folder, become absolute.
Json with_absolute_paths(Json config);

// Throws Error: the folder already holds a run.
[[noreturn]] void fail_run_exists(const std::filesystem::path& folder);

// Holds the folder's lock while it lives (core/folder_lock.h). Of several processes the first one
// does, and decides for all.
class RunFolder {
 public:
  // Throws Error when another process has the folder, or when it holds a run and `resume` is false.
  RunFolder(std::filesystem::path path, bool resume);

  // Throws Error naming one of the files that the run reads, where the run would overwrite it. ""
  // is none.
  void check_inputs(const std::vector<std::string>& inputs) const;

  const std::filesystem::path& path() const { return path_; }
  // Whether the folder holds a finished epoch to continue from.
  bool resuming() const { return resuming_; }
  std::filesystem::path config() const { return path_ / "config.json"; }
  std::filesystem::path results() const { return path_ / "results.csv"; }
  std::filesystem::path batch_picture() const { return path_ / "train_batch.png"; }
  std::filesystem::path last() const { return path_ / "last.safetensors"; }
  std::filesystem::path best() const { return path_ / "best.safetensors"; }
  std::filesystem::path of_epoch(int64_t epoch) const;
  std::filesystem::path state() const { return path_ / "resume.safetensors"; }

 private:
  std::filesystem::path path_;
  std::optional<FolderLock> lock_;
  bool resuming_;
};

// One row of results.csv. Epoch 0, of runs that start from something to be measured against, has no
// losses.
struct EpochRow {
  int64_t epoch = 0;
  double lr = 0;  // of the weights; the last of the epoch
  double loss_iou = 0, loss_dfl = 0, loss_cls = 0;
  double loss_cwd = 0;  // channel-wise distillation of the features
  double loss_obj = 0;
  double loss() const { return loss_iou + loss_dfl + loss_cls + loss_cwd + loss_obj; }
  double map50 = -1, map50_95 = -1;  // -1, here and below: not measured
  double seconds = 0;                // of training alone
  double precision = -1, recall = -1;
  double val_iou = -1, val_dfl = -1, val_cls = -1, val_obj = -1;
  double lr_bias = 0, lr_norm = 0;
  int64_t images = 0;  // trained on
  double val_loss() const { return val_iou < 0 ? -1 : val_iou + val_dfl + val_cls + val_obj; }
  double images_per_second() const {
    return seconds > 0 ? static_cast<double>(images) / seconds : 0;
  }
  void take_validation(const std::optional<LossItems>& losses);
};
std::vector<EpochRow> rows_from_json(const Json& json, const std::string& where);
Json rows_to_json(const std::vector<EpochRow>& rows);
// The first pictures of a batch with their boxes, as the network sees them, in a square grid.
void write_batch_picture(const std::filesystem::path& path, const data::Batch& batch,
                         const std::vector<std::string>& names);

// Where a run stands between two epochs.
struct RunState {
  int64_t epoch = 0;  // the next one
  std::vector<EpochRow> rows;
  double best_map50 = -1, best_map50_95 = -1;
  int64_t best_epoch = -1;
};
// What is said of it in the file, in a run of this config. Throws Error that starts with `where`,
// naming the key in which the run's own config differs. A run that has trained all its epochs may be
// given more; its rates and the end of mosaic then follow the new number.
Json run_state_to_json(const RunState& state, const Json& config);
RunState run_state_from_json(const Json& meta, const Json& config, const std::string& where);
// `ema` may be null.
void save_run(const std::filesystem::path& path, const Json& config, const RunState& state,
              const Module& model, const optim::ModelEma* ema, const optim::Optimizer& optimizer,
              const optim::GradScaler* scaler = nullptr);
// Restores everything into the given objects. Throws Error naming file and what is wrong, and when
// the run's config differs from `config`.
RunState load_run(const std::filesystem::path& path, const Json& config, const Module& model,
                  optim::ModelEma* ema, optim::Optimizer& optimizer,
                  optim::GradScaler* scaler = nullptr);

}  // namespace sextant::apps
