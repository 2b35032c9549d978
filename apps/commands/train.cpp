#include <memory>

#include "apps/cli/run_options.h"
#include "apps/commands/commands.h"
#include "apps/training/repopt.h"
#include "apps/training/trainer.h"

namespace sextant::apps {

void add_train_command(Command app) {
  struct Options : RunOptions {
    std::string from, device;
  };
  auto o = std::make_shared<Options>();
  Command c = app.add_command("train", "Train a detector from a JSON config");
  add_run_options(c, *o, "configs/ has examples", "solver.lr0=0.01");
  c.add_option(
      "--from", o->from,
      "Scales of an earlier hyper-search, instead of searching (mode repopt): a run folder, "
      "a checkpoint or a scales file");
  c.add_option("--device", o->device, "Instead of the config's: auto, cpu or cuda")
      .one_of({"auto", "cpu", "cuda"});
  c.callback([o] {
    if (!o->device.empty()) o->overrides.push_back("device=" + o->device);
    const TrainConfig config = load_train_config(o->config, o->overrides);
    const std::filesystem::path out = o->folder();
    if (config.training.mode == "repopt") {
      train_repopt(config, out, {.resume = o->resume, .from = o->from});
    } else {
      check(o->from.empty(), "{}: --from goes with 'training.mode' \"repopt\"", o->config);
      train(config, out, o->resume);
    }
  });
}

}  // namespace sextant::apps
