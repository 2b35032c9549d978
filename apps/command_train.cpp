#include <memory>

#include "apps/commands.h"
#include "apps/repopt.h"
#include "apps/trainer.h"

namespace sextant::apps {

void add_train_command(CLI::App& app) {
  struct Options {
    std::string config, out, from;
    std::vector<std::string> overrides;
    bool resume = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("train", "Train a detector from a JSON config");
  c->add_option("CONFIG", o->config, "JSON config; configs/ has examples")->required();
  c->add_option("--set", o->overrides, "Override a key: --set solver.lr0=0.01")
      ->allow_extra_args(false);
  c->add_option("--out", o->out, "Run folder (default: runs/<config name>)");
  c->add_flag("--resume", o->resume, "Go on with the run in the folder");
  c->add_option(
      "--from", o->from,
      "Scales of an earlier hyper-search, instead of searching (mode repopt): a run folder, "
      "a checkpoint or a scales file");
  c->callback([o] {
    const TrainConfig config = load_train_config(o->config, o->overrides);
    const std::filesystem::path out =
        o->out.empty() ? std::filesystem::path("runs") / std::filesystem::path(o->config).stem()
                       : std::filesystem::path(o->out);
    if (config.training.mode == "repopt") {
      train_repopt(config, out, {.resume = o->resume, .from = o->from});
    } else {
      check(o->from.empty(), "{}: --from goes with 'training.mode' \"repopt\"", o->config);
      train(config, out, o->resume);
    }
  });
}

}  // namespace sextant::apps
