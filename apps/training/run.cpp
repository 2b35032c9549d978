// SPDX-License-Identifier: Apache-2.0
#include "apps/training/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "apps/training/processes.h"
#include "apps/training/solver.h"
#include "apps/training/train_epoch.h"
#include "apps/training/validation_loss.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {
namespace {

optim::NamedTensors named_state(const Module& module) {
  optim::NamedTensors out;
  for (const auto& s : module.state()) out.emplace_back(s.name, s.tensor);
  return out;
}

int64_t parameter_count(const Module& module) {
  int64_t n = 0;
  for (const auto& p : module.parameters()) n += p.variable.data().numel();
  return n;
}

}  // namespace

RunData::RunData(const DataConfig& config, const std::optional<data::ClassList>& classes)
    : train(config.open_train(classes)),
      val(config.open(config.val, classes ? *classes : data::class_list(train))) {
  print_report(train);
  print_report(val);
  data::check_has_boxes(train);
  data::check_has_boxes(val);
}

Run::Run(const RunConfig& config, const RunFolder& folder, const RunData& data, TrainingTask& task)
    : config_(config),
      folder_(folder),
      data_(data),
      task_(task),
      traits_(task.traits()),
      optimizer_(make_optimizer(config, task.parameters())),
      loader_(data.train, loader_config(config, traits_.device, traits_.gray_border)),
      schedule_(make_schedule(config, loader_.batches_per_epoch(), traits_.rate_by_iteration)),
      record_(folder, data.train) {
  if (config.solver.ema_decay > 0)
    averages_.emplace(named_state(task.module()), config.solver.ema_decay, config.solver.ema_tau);
  if (averages_ && !traits_.changes_after_step) optimizer_->average_into(*averages_);
  if (!across_) return;
  check(config.batch >= across_->size(),
        "{}: 'batch' is {}, must be at least the number of processes, {}", config.where,
        config.batch, across_->size());
  gradient_sum_.emplace(task.parameters(), *across_, config.bucket_mb << 20);
}

double RunClock::seconds_left(double done) const {
  const double elapsed =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double past = done - static_cast<double>(first);
  return past > 0 ? elapsed / past * (static_cast<double>(epochs) - done) : 0;
}

RunResult Run::train(int64_t stop_after) {
  const InterruptScope scope;
  try {
    begin();
    for (trained_ = 0; !finished(); ++trained_) {
      if (stop_after > 0 && trained_ == stop_after) return result();
      one_epoch();
    }
  } catch (const Interrupted& e) {
    throw Interrupted(e.signal(), fmt::format("{}: {} after {} epoch{}; resume it to continue",
                                              folder_.path().string(), e.what(), state_.epoch,
                                              state_.epoch == 1 ? "" : "s"));
  }
  finish();
  return result();
}

void Run::begin() {
  if (across_) check_agreement(*across_, identity());
  if (folder_.resuming() && is_first_process())
    state_ = load_run(folder_.state(), task_.resume_key(), task_.module(), averages(), *optimizer_,
                      task_.scaler());
  if (across_) spread_state();
  if (folder_.resuming()) task_.restored();
  if (is_first_process())
    write_atomically(folder_.config(), json_text(task_.resolved_config(), 2) + "\n");
  fmt::print("run folder {}\n", folder_.path().string());
  fmt::print("{}; {} parameters; {} iterations per epoch{}\n",
             describe_data(data_.train, data_.val), parameter_count(task_.module()),
             loader_.batches_per_epoch(),
             state_.epoch > 0 ? fmt::format("; resuming with epoch {}", state_.epoch + 1) : "");
  fmt::print("in memory: {}\n", loader_.cached());
  if (across_)
    fmt::print("{} processes{}\n", across_->size(),
               traits_.local_statistics
                   ? "; without 'sync_bn' the batch statistics are those of each one's images"
                   : "");
  if (traits_.has_start && !folder_.resuming()) {
    EpochRow row;
    evaluate(row);
    state_.rows.push_back(row);
    if (is_first_process()) record_.write(state_.rows);
    print_epoch(row, {.epochs = config_.epochs});
  }
  const bool untouched = state_.rows.empty() || state_.rows.back().epoch == 0;
  if (!untouched && evaluation_due() && state_.rows.back().map50_95 < 0) end_epoch();
  if (finished())
    fmt::print("the run is complete{}\n",
               state_.epoch < config_.epochs ? "" : "; more 'epochs' in its config continue it");
  clock_ = {.first = state_.epoch, .epochs = config_.epochs};
}

Json Run::identity() const {
  return {{"config", comparable(task_.resume_key())},
          {"train images", data_.train.size()},
          {"val images", data_.val.size()},
          {"train labels", data::fingerprint(data_.train)},
          {"val labels", data::fingerprint(data_.val)},
          {"parameters", parameter_count(task_.module())},
          {"device", name_of(traits_.device)},
          {"resume", folder_.resuming()}};
}

// Process 0's start, or what it has resumed, on every process.
void Run::spread_state() {
  spread(*across_, named_state(task_.module()));
  if (averages_) spread(*across_, averages_->state(""));
  spread(*across_, optimizer_->state(""));
  if (const optim::GradScaler* scaler = task_.scaler()) spread(*across_, scaler->state(""));
  const std::string meta =
      text_from_first([&] { return json_text(run_state_to_json(state_, task_.resume_key())); });
  const Json json = parse_json(meta, "process 0");
  state_ = run_state_from_json(json, json.at("config"), "process 0");
}

// As in the official training, the running statistics are those of process 0's images.
void Run::spread_statistics() const {
  for (const auto& b : task_.module().buffers()) spread(*across_, b.tensor);
  if (!averages_) return;
  std::set<std::string> buffers;
  for (const auto& b : task_.module().buffers()) buffers.insert(b.name);
  for (const auto& [name, t] : averages_->tensors())
    if (buffers.contains(name)) spread(*across_, t);
}

bool Run::finished() const {
  return state_.epoch >= config_.epochs || (config_.patience > 0 && state_.best_epoch >= 0 &&
                                            state_.epoch - state_.best_epoch >= config_.patience);
}

void Run::one_epoch() {
  task_.begin_epoch(state_.epoch);
  optimizer_->zero_grad();  // an accumulation that the last epoch left unfinished; officially so
  EpochRow row = run_epoch({config_, state_.epoch, loader_, data_.train.names,
                            folder_.batch_picture(), clock_, state_.best_map50_95},
                           [&](const data::Batch& batch, int64_t iteration) {
                             const optim::StepValues values = schedule_.at(iteration);
                             // Images that do not count leave gradients that are taken back.
                             if (gradient_sum_ && values.step && batch.counts)
                               gradient_sum_->overlap();
                             auto items =
                                 summed(task_.iterate(batch, iteration), batch.counts, across_);
                             if (values.step) step(values);
                             return Iteration{std::move(items), values.lr};
                           });
  ++state_.epoch;
  state_.rows.push_back(row);
  if (across_ && traits_.local_statistics) spread_statistics();
  if (evaluation_due()) save_state();  // what ends the evaluation does not cost the epoch
  end_epoch();
}

bool Run::evaluation_due() const {
  return state_.epoch % config_.eval_interval == 0 || state_.epoch == config_.epochs;
}

void Run::end_epoch() {
  EpochRow& row = state_.rows.back();
  {
    std::optional<optim::EmaScope> scope;
    if (averages_) scope.emplace(*averages_);
    if (evaluation_due()) evaluate(row);
    if (is_first_process()) task_.save(folder_.last(), row);
    const bool kept = config_.save_period > 0 && state_.epoch % config_.save_period == 0;
    if (is_first_process() && kept) task_.save(folder_.of_epoch(state_.epoch), row);
  }
  if (is_first_process()) record_.write(state_.rows);
  save_state();
  print_epoch(row, {.epochs = config_.epochs,
                    .best = state_.best_map50_95,
                    .best_epoch = state_.best_epoch,
                    .seconds_left = clock_.seconds_left(static_cast<double>(state_.epoch))});
}

void Run::save_state() {
  if (!is_first_process()) return;
  save_run(folder_.state(), task_.resume_key(), state_, task_.module(), averages(), *optimizer_,
           task_.scaler());
}

void Run::step(const optim::StepValues& values) {
  if (gradient_sum_) gradient_sum_->sum();
  if (optim::GradScaler* scaler = task_.scaler())
    scaler->step(*optimizer_, values.lr, values.momentum);
  else
    optimizer_->step(values.lr, values.momentum);
  optimizer_->zero_grad();
  task_.stepped();
  if (averages_ && traits_.changes_after_step) averages_->update();
}

void Run::evaluate(EpochRow& row) {
  if (across_) check_same_state(*across_, task_.module(), state_.epoch);
  const deploy::EvalResult r =
      deploy::evaluate(task_.graph(), data_.val, config_.image_size, traits_.precision,
                       {.conf = config_.eval_conf,
                        .iou = config_.eval_iou,
                        .device = traits_.device,
                        .across = across_});
  row.map50 = std::max(0.0, r.metrics.ap50);
  row.map50_95 = std::max(0.0, r.metrics.ap);
  row.precision = r.curves.precision;
  row.recall = r.curves.recall;
  if (traits_.has_losses && is_first_process())
    row.take_validation(validation_losses(task_, data_.val, config_));
  if (keep_if_best(row) && is_first_process()) record_.keep_best(r, data_.val, row.epoch);
}

bool Run::keep_if_best(const EpochRow& row) {
  if (row.map50_95 <= state_.best_map50_95) return false;
  state_.best_map50 = row.map50;
  state_.best_map50_95 = row.map50_95;
  state_.best_epoch = state_.epoch;
  if (is_first_process()) task_.save(folder_.best(), row);
  return true;
}

void Run::finish() {
  if (state_.epoch < config_.epochs)
    fmt::print("no better mAP50-95 in {} epochs: stopped after epoch {}\n",
               state_.epoch - state_.best_epoch, state_.epoch);
  if (is_first_process()) task_.finish(folder_, result());
}

RunResult Run::result() const {
  RunResult r;
  r.best_file = folder_.best();
  r.best_map50 = state_.best_map50;
  r.best_map50_95 = state_.best_map50_95;
  r.best_epoch = state_.best_epoch;
  r.trained = trained_;
  r.complete = finished();
  int64_t epochs = 0;
  for (const EpochRow& row : state_.rows) {
    const bool start = row.epoch == 0;
    r.seconds_per_epoch += row.seconds;
    epochs += !start;
    if (row.map50_95 < 0) continue;
    (start ? r.start_map50 : r.last_map50) = row.map50;
    (start ? r.start_map50_95 : r.last_map50_95) = row.map50_95;
  }
  if (epochs > 0) r.seconds_per_epoch /= static_cast<double>(epochs);
  return r;
}

}  // namespace sextant::apps
