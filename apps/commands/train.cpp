// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <memory>

#include "apps/cli/run_options.h"
#include "apps/commands/commands.h"
#include "apps/commands/shared_work.h"
#include "apps/training/fit.h"
#include "apps/training/repopt.h"
#include "apps/training/trainer.h"
#include "core/progress.h"

namespace sextant::apps {
namespace {

struct Options : RunOptions {
  std::string from, batch, budget;
  bool find_lr = false;
  std::optional<deploy::DeviceChoice> device;

  // What is to be found out before a run is in the config of one that has begun.
  void check_resumed() const {
    for (const auto& [given, name] : {std::pair{!batch.empty(), "--batch"},
                                      {!budget.empty(), "--budget"},
                                      {find_lr, "--find-lr"}})
      check(!resume || !given,
            "{}: is for a new run; the folder's config.json has what was chosen, resume with that",
            name);
  }
};

TrainConfig parse(const Options& o, const Json& json) {
  TrainConfig config = parse_train_config(json, o.config, o.config_folder());
  if (o.device) config.device = *o.device;
  return config;
}

// The config, with what is chosen by --batch and --budget.
TrainConfig fitted(const Options& o) {
  Json json = o.json();
  if (!o.batch.empty() && o.batch != "auto") {
    int64_t batch = 0;
    const char* const end = o.batch.data() + o.batch.size();
    const auto [stop, error] = std::from_chars(o.batch.data(), end, batch);
    check(error == std::errc() && stop == end, "--batch: '{}' is neither a number nor 'auto'",
          o.batch);
    json["batch"] = batch;
  }
  const double seconds = o.budget.empty() ? 0 : parse_duration(o.budget);
  if (o.batch == "auto") json["batch"] = fitting_batch(parse(o, json));
  if (seconds > 0) {
    const TrainConfig config = parse(o, json);
    const bool search_given =
        !o.from.empty() || (json.contains("training") && json["training"].contains("search"));
    json["epochs"] = epochs_within(config, seconds, search_given);
  }
  return parse(o, json);
}

}  // namespace

void add_train_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command("train", "Train a detector from a JSON config");
  add_run_options(c, *o, "examples in configs/, all keys in docs/config.md", "solver.lr0=0.01");
  c.add_option(
      "--from PATH", o->from,
      "RepOptimizer: take the scales of an earlier hyper-search instead of searching; a run "
      "folder, a checkpoint or a scales file");
  c.add_option("--device NAME", o->device, "where to run, instead of what the config says");
  c.add_option(
      "--batch N", o->batch,
      "images of a step, instead of what the config says; auto: as many as fit into memory, up to "
      "solver.nominal_batch");
  c.add_option(
      "--budget TIME", o->budget,
      "train as many epochs as fit into this time, by a step and an evaluation measured here, "
      "instead of what the config says; as in 90s, 30m, 1h30m");
  c.add_flag(
      "--find-lr", o->find_lr,
      "do not train: try rates from small to large, draw the loss over them and propose one");
  c.examples({"sextant train configs/bccd_yolov6n.json --set data.path=/data/bccd --out runs/bccd",
              "sextant train configs/bccd_yolov6n.json --budget 30m --batch auto",
              "sextant train configs/bccd_yolov6n.json --out runs/bccd --resume"});
  c.callback([o] {
    run_shared([&] {
      o->check_resumed();
      const TrainConfig config = fitted(*o);
      const std::filesystem::path out = o->folder();
      if (o->find_lr) return find_rate(config, out);
      if (config.training.mode == TrainingScheme::kRepOpt) {
        train_repopt(config, out, {.resume = o->resume, .from = o->from});
      } else {
        check(o->from.empty(), "--from: needs 'training.mode' \"repopt\" in {}", o->config);
        train(config, out, o->resume);
      }
    });
  });
}

}  // namespace sextant::apps
