// SPDX-License-Identifier: Apache-2.0
#include "apps/training/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include "apps/training/processes.h"
#include "apps/training/solver.h"
#include "apps/training/train_epoch.h"
#include "apps/training/trainer.h"
#include "apps/training/validation_loss.h"
#include "core/allocator.h"
#include "core/communicator.h"
#include "core/device.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "core/median.h"
#include "core/memory.h"
#include "core/outputs.h"
#include "core/progress.h"
#include "data/drawing/plot.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The data of a trial; what there is to say about it, the run says.
RunData open_quietly(const DataConfig& config) {
  set_notice_sink([](const std::string&) {});
  try {
    RunData data(config);
    set_notice_sink({});
    return data;
  } catch (...) {
    set_notice_sink({});
    throw;
  }
}

// Steps of a model that is thrown away, on the batches of the run.
class Trial {
 public:
  Trial(const TrainConfig& config, const RunData& data)
      : config_(config),
        task_(make_detector_task(config, data)),
        optimizer_(make_optimizer(config, task_->parameters())),
        loader_(data.train,
                loader_config(config, task_->traits().device, task_->traits().gray_border)) {
    optim::NamedTensors state;
    for (const auto& s : task_->module().state()) state.emplace_back(s.name, s.tensor);
    if (config.solver.ema_decay > 0)
      averages_.emplace(state, config.solver.ema_decay, config.solver.ema_tau);
    if (averages_) optimizer_->average_into(*averages_);
    task_->begin_epoch(0);
    loader_.begin_epoch(0, config.close_mosaic < config.epochs);
  }

  TrainingTask& task() { return *task_; }
  int64_t batches_per_epoch() const { return loader_.batches_per_epoch(); }

  // A step at this rate; waits for its end.
  LossItems step(double lr) {
    data::Batch batch;
    if (!loader_.next(batch)) {
      loader_.begin_epoch(++epoch_, config_.close_mosaic < config_.epochs);
      loader_.next(batch);
    }
    const auto items = summed(task_->iterate(batch, iteration_++), batch.counts, processes());
    const std::array<double, 3> rates{lr, lr, lr};
    if (optim::GradScaler* scaler = task_->scaler())
      scaler->step(*optimizer_, rates, config_.solver.momentum);
    else
      optimizer_->step(rates, config_.solver.momentum);
    optimizer_->zero_grad();
    return items();
  }

 private:
  const TrainConfig& config_;
  std::unique_ptr<TrainingTask> task_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::optional<optim::ModelEma> averages_;
  data::Loader loader_;
  int64_t epoch_ = 0, iteration_ = 0;
};

// Seconds of a step: the median of some, after those in which caches fill and plans are made.
double step_seconds(Trial& trial) {
  constexpr int kFirst = 2, kFewest = 4, kMost = 40;
  constexpr double kEnough = 6;  // seconds
  std::vector<double> seconds;
  Progress progress("measuring a step", 0);
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < kFirst + kMost; ++i) {
    const Clock::time_point start = Clock::now();
    trial.step(0);
    if (i >= kFirst) seconds.push_back(seconds_since(start));
    progress.update(i + 1);
    const bool enough = std::ssize(seconds) >= kFewest && seconds_since(begin) > kEnough;
    if (from_first([&] { return enough; })) break;
  }
  progress.finish();
  return median(seconds);
}

// Seconds of an evaluation of the validation split, from one of a part of it.
double evaluation_seconds(Trial& trial, const RunData& data, const TrainConfig& config) {
  constexpr int64_t kImages = 64;
  TrainingTask& task = trial.task();
  const TaskTraits traits = task.traits();
  data::Dataset some = data.val;
  if (some.size() > kImages) some.samples.resize(kImages);
  if (some.boxes() == 0) some = data.val;
  const Clock::time_point start = Clock::now();
  deploy::evaluate(task.graph(), some, config.image_size, traits.precision,
                   {.conf = config.eval_conf,
                    .iou = config.eval_iou,
                    .device = traits.device,
                    .across = processes()});
  if (is_first_process()) validation_losses(task, some, config);
  return seconds_since(start) * static_cast<double>(data.val.size()) /
         static_cast<double>(some.size());
}

// Bytes of tensors, on the model's device, that a step with this batch takes at most.
double step_bytes(TrainConfig config, const RunData& data, int64_t batch) {
  config.batch = batch;
  config.cuda_graph = false;
  Trial trial(config, data);
  const bool host = trial.task().traits().device == Device::kCpu;
  host ? host_reset_peak() : device_reset_peak();
  trial.step(0);
  trial.step(0);
  return static_cast<double>((host ? host_stats() : device_stats()).peak_bytes);
}

// A config of which only costs are of interest.
TrainConfig without_weights(TrainConfig config) {
  config.init.clear();
  return config;
}

}  // namespace

int64_t epochs_within(const TrainConfig& given, double seconds, bool search_epochs_given) {
  const InterruptScope scope;
  const Clock::time_point start = Clock::now();
  const TrainConfig config = without_weights(given);
  const RunData data = open_quietly(config.data);
  Trial trial(config, data);
  const double step = step_seconds(trial);
  const double evaluation = evaluation_seconds(trial, data, config);
  const auto batches = static_cast<double>(trial.batches_per_epoch());
  const double epoch =
      step * batches + evaluation / static_cast<double>(config.eval_interval) + 0.1;
  // The last epoch is evaluated always; files and the report are written at the end.
  const double fixed = evaluation + 2;
  const bool two_stages = config.training.mode == TrainingScheme::kRepOpt;
  double left = seconds - seconds_since(start) - (two_stages ? 2 : 1) * fixed;
  if (two_stages && search_epochs_given)
    left -= epoch * static_cast<double>(config.training.search_epochs);
  const double stages = two_stages && !search_epochs_given ? 2 : 1;
  const std::string epochs = text_from_first(
      [&] { return std::to_string(static_cast<int64_t>(std::floor(left / (stages * epoch)))); });
  const std::string measured = fmt::format(
      "{:.3g} s a step, {} steps an epoch, {:.3g} s an evaluation", step, batches, evaluation);
  const int64_t n = std::stoll(epochs);
  check(n >= 1, "--budget: {} is too little for one epoch, which takes {} ({})",
        format_duration(seconds), format_duration(stages * epoch + fixed), measured);
  fmt::print("budget {}: {} epochs{} ({})\n", format_duration(seconds), n,
             stages > 1 ? " in each of the two stages" : "", measured);
  return n;
}

int64_t fitting_batch(const TrainConfig& given) {
  const InterruptScope scope;
  constexpr double kPart = 0.6;
  const TrainConfig config = without_weights(given);
  const RunData data = open_quietly(config.data);
  const int64_t processes_here = processes() ? processes()->size() : 1;
  const int64_t few = 2 * processes_here, more = 6 * processes_here;
  const Device device = deploy::choose_device(config.device);
  const double free =
      static_cast<double>(device == Device::kCpu ? available_memory() : device_free_bytes());
  check(free > 0, "--batch auto: how much memory is free is not known here; give a number");
  const double at_few = step_bytes(config, data, few), at_more = step_bytes(config, data, more);
  const double image = std::max(1.0, (at_more - at_few) / static_cast<double>(more - few));
  const double fixed = std::max(0.0, at_few - image * static_cast<double>(few));
  const std::string fitting = text_from_first([&] {
    // The processes of one machine share its memory.
    const double share =
        device == Device::kCpu ? kPart / static_cast<double>(processes_here) : kPart;
    const double images = (share * free - fixed) / image;
    auto n = static_cast<int64_t>(std::min(images * static_cast<double>(processes_here), 1e9));
    n = std::min({n, config.solver.nominal_batch, data.train.size()});
    return std::to_string(n >= 8 ? n / 8 * 8 : n);
  });
  const int64_t n = std::stoll(fitting);
  constexpr double kMega = 1e6;
  check(n >= processes_here,
        "--batch auto: a step takes {:.0f} MB and {:.0f} for each image, only {:.0f} are free; a "
        "smaller 'image_size' or model may fit",
        fixed / kMega, image / kMega, free / kMega);
  fmt::print(
      "batch {}: a step takes {:.0f} MB and {:.1f} for each image, of {:.0f} that are free\n", n,
      fixed / kMega, image / kMega, free / kMega);
  return n;
}

void find_rate(const TrainConfig& config, const fs::path& out) {
  check(processes() == nullptr, "--find-lr: tries rates in one process, start it without others");
  const InterruptScope scope;
  constexpr int kSteps = 100;
  constexpr double kSmoothing = 0.9;
  const double low = config.solver.adam() ? 1e-7 : 1e-5, high = config.solver.adam() ? 0.1 : 1;
  const fs::path csv = out / "find_lr.csv", picture = out / "find_lr.png";
  check_outputs({.inputs = {config.init, config.teacher},
                 .datasets = {config.data.path},
                 .outputs = {csv.string(), picture.string()},
                 .folders = {}});
  const RunData data(config.data);
  Trial trial(config, data);
  data::Series loss, averaged;
  loss.name = "loss";
  averaged.name = "averaged";
  averaged.weight = 2;
  std::string table = "lr,loss,averaged\n";
  double sum = 0, lowest = INFINITY;
  Progress progress("rates", kSteps);
  for (int i = 0; i < kSteps; ++i) {
    const double lr = low * std::pow(high / low, static_cast<double>(i) / (kSteps - 1));
    const double now = trial.step(lr).total();
    if (!std::isfinite(now)) break;
    sum = kSmoothing * sum + (1 - kSmoothing) * now;
    const double mean = sum / (1 - std::pow(kSmoothing, i + 1));
    table += fmt::format("{:.6g},{:.6g},{:.6g}\n", lr, now, mean);
    loss.y.push_back(now);
    averaged.y.push_back(mean);
    loss.x.push_back(std::log10(lr));
    averaged.x.push_back(std::log10(lr));
    progress.update(i + 1, fmt::format("lr {:.2g} loss {:.3f}", lr, now));
    lowest = std::min(lowest, mean);
    if (i >= 10 && mean > 4 * lowest) break;
  }
  progress.finish();
  check(averaged.y.size() > 20,
        "--find-lr: the loss is not finite after {} steps, at a rate of {:.2g}", averaged.y.size(),
        low);
  // The slope over a window: one of neighbours is mostly noise.
  constexpr size_t kWindow = 8;
  size_t best = 0;
  double steepest = INFINITY;
  for (size_t i = 0; i + kWindow < averaged.y.size(); ++i) {
    const double slope = averaged.y[i + kWindow] - averaged.y[i];
    if (slope < steepest) {
      steepest = slope;
      best = i + kWindow / 2;
    }
  }
  const double lr = std::pow(10, averaged.x[best]);
  if (!is_first_process()) return;
  fs::create_directories(out);
  write_atomically(csv, table);
  const double top = 2 * averaged.y.front();
  data::PlotSpec plot;
  plot.title = "Loss by learning rate";
  plot.x_label = "log10 of the rate";
  plot.y_label = "loss";
  plot.series = {loss, averaged};
  plot.y_min = 0;
  plot.y_max = std::max(top, *std::ranges::max_element(averaged.y) * 0.5);
  plot.marks = {{averaged.x[best], averaged.y[best], fmt::format("{:.2g}", lr)}};
  data::save_png(picture, data::draw_line_plot(plot));
  fmt::print("the loss falls fastest at a rate of {:.2g}: --set solver.lr0={:.2g}; {} and {}\n", lr,
             lr, picture.string(), csv.string());
}

}  // namespace sextant::apps
