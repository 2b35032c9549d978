// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "apps/cli/run_options.h"
#include "apps/commands/commands.h"
#include "apps/commands/shared_work.h"
#include "apps/training/repopt.h"
#include "apps/training/trainer.h"

namespace sextant::apps {

void add_train_command(Command app) {
  struct Options : RunOptions {
    std::string from;
    std::optional<deploy::DeviceChoice> device;
  };
  auto o = std::make_shared<Options>();
  Command c = app.add_command("train", "Train a detector from a JSON config");
  add_run_options(c, *o, "examples in configs/, all keys in docs/config.md", "solver.lr0=0.01");
  c.add_option(
      "--from PATH", o->from,
      "RepOptimizer: take the scales of an earlier hyper-search instead of searching; a run "
      "folder, a checkpoint or a scales file");
  c.add_option("--device NAME", o->device, "where to run, instead of what the config says");
  c.examples({"sextant train configs/bccd_yolov6n.json --set data.path=/data/bccd --out runs/bccd",
              "sextant train configs/bccd_yolov6n.json --out runs/bccd --resume"});
  c.callback([o] {
    run_shared([&] {
      TrainConfig config = parse_train_config(o->json(), o->config, o->config_folder());
      if (o->device) config.device = *o->device;
      const std::filesystem::path out = o->folder();
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
