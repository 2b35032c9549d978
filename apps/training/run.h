// SPDX-License-Identifier: Apache-2.0
// A training run, whatever is trained: its data, schedule, optimizer and averages, its folder
// (apps/training/run_folder.h), and resuming it bit for bit.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "apps/training/run_folder.h"
#include "apps/training/run_record.h"
#include "apps/training/train_config.h"
#include "data/loading/loader.h"
#include "deploy/graph/graph.h"
#include "models/loss/detection_loss.h"
#include "optim/ema.h"
#include "optim/grad_scaler.h"
#include "optim/gradient_sum.h"
#include "optim/schedule.h"

namespace sextant::apps {

struct RunResult {
  std::filesystem::path best_file;
  double best_map50 = -1, best_map50_95 = -1;
  int64_t best_epoch = -1;  // from 1; 0: the start
  // -1 where it was not measured.
  double start_map50 = -1, start_map50_95 = -1;
  double last_map50 = -1, last_map50_95 = -1;
  double seconds_per_epoch = 0;
  int64_t trained = 0;    // epochs of this call
  bool complete = false;  // whether none is left
};

// The splits of a run, with the classes of a model or, without, of the training split. Mistakes in
// their labels are reported on stderr. Throws Error where either has no box.
struct RunData {
  explicit RunData(const DataConfig& config,
                   const std::optional<data::ClassList>& classes = std::nullopt);
  data::Dataset train, val;
};

// How far a call of Run::train() is, for the time that is left.
struct RunClock {
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  int64_t first = 0, epochs = 0;  // from 0; of the run

  // With `done` epochs of the run, or a part of one, behind it; 0 where nothing has been done.
  double seconds_left(double done) const;
};

struct TaskTraits {
  Device device = Device::kCpu;  // of batches and evaluation
  int64_t gray_border = 0;
  bool local_statistics = false;  // each process's running statistics are of its own images
  deploy::Precision precision = deploy::Precision::kFloat32;  // of the evaluated graph's engine
  bool rate_by_iteration = false;                             // make_schedule()
  bool has_start = false;           // what the run starts from is measured, as epoch 0
  bool changes_after_step = false;  // stepped() changes what the averages are taken of
  bool has_losses = false;          // losses() can be asked for
};

// What a run trains: a model, its losses, and the form in which it is evaluated and saved.
class TrainingTask {
 public:
  virtual ~TrainingTask() = default;

  virtual TaskTraits traits() const = 0;
  // What the optimizer moves. Stays where it is in memory, as does the state of module().
  virtual std::vector<optim::NamedParameter> parameters() const = 0;
  // Its state, on its device, is averaged and kept for resuming.
  virtual const Module& module() const = 0;
  virtual optim::GradScaler* scaler() { return nullptr; }
  // The config as resolved, and what has to be equal for a run to be resumed.
  virtual Json resolved_config() const = 0;
  virtual Json resume_key() const { return resolved_config(); }

  // After another state was loaded into the module.
  virtual void restored() {}
  virtual void begin_epoch(int64_t epoch) = 0;  // from 0
  // Forward and backward pass of a batch: the gradients add up in the parameters. `iteration` is
  // that of the run. With several processes() the batch is a part of one, and their gradients and
  // losses add up to those of the whole. Returns what gives the losses, which may wait for the device.
  virtual std::function<LossItems()> iterate(const data::Batch& batch, int64_t iteration) = 0;
  // After the optimizer's step.
  virtual void stepped() {}
  // Of a validation batch, in evaluation mode; the module holds the averages then.
  virtual LossItems losses(const data::Batch&) { return {}; }

  // The model as it is now; the module holds the averages then.
  virtual deploy::Graph graph() = 0;
  virtual void save(const std::filesystem::path& path, const EpochRow& row) = 0;
  // When no epoch is left: files and messages of the end.
  virtual void finish(const RunFolder& folder, const RunResult& result) = 0;
};

class Run {
 public:
  // All have to outlive this.
  Run(const RunConfig& config, const RunFolder& folder, const RunData& data, TrainingTask& task);

  // Trains to the end, or `stop_after` > 0 epochs of this call, as if killed there. Throws Error
  // for a resumed run whose config differs, naming the key, and when a loss is not finite;
  // Interrupted, within the iteration, when a signal waits (core/interrupt.h).
  RunResult train(int64_t stop_after = 0);

 private:
  Json identity() const;  // what has to be the same on every process
  void begin();
  void spread_state();
  void spread_statistics() const;
  bool finished() const;
  void one_epoch();
  void step(const optim::StepValues& values);
  bool evaluation_due() const;  // of the last epoch
  void end_epoch();             // evaluation, where it is due, and files
  void evaluate(EpochRow& row);
  bool keep_if_best(const EpochRow& row);  // whether it is
  void save_state();
  void finish();
  RunResult result() const;
  optim::ModelEma* averages() { return averages_ ? &*averages_ : nullptr; }

  const RunConfig& config_;
  const RunFolder& folder_;
  const RunData& data_;
  TrainingTask& task_;
  const TaskTraits traits_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::optional<optim::ModelEma> averages_;
  data::Loader loader_;
  optim::Schedule schedule_;
  Communicator* const across_ = processes();
  std::optional<optim::GradientSum> gradient_sum_;  // of several processes
  RunState state_;
  RunRecord record_;
  RunClock clock_;       // of this call
  int64_t trained_ = 0;  // epochs of this call
};

}  // namespace sextant::apps
