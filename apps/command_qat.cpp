#include <memory>

#include "apps/commands.h"
#include "apps/qat.h"

namespace sextant::apps {

void add_qat_command(CLI::App& app) {
  struct Options {
    std::string config, out;
    std::vector<std::string> overrides;
    bool resume = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "qat", "Quantization-aware training of a trained model, to an int8 deploy file");
  c->add_option("CONFIG", o->config, "JSON config; docs/qat.md has every key")->required();
  c->add_option("--set", o->overrides, "Override a key: --set distill.cwd_weight=0")
      ->allow_extra_args(false);
  c->add_option("--out", o->out, "Run folder (default: runs/<config name>)");
  c->add_flag("--resume", o->resume, "Go on with the run in the folder");
  c->callback([o] {
    const QatConfig config = load_qat_config(o->config, o->overrides);
    const std::filesystem::path out =
        o->out.empty() ? std::filesystem::path("runs") / std::filesystem::path(o->config).stem()
                       : std::filesystem::path(o->out);
    train_qat(config, out, o->resume);
  });
}

}  // namespace sextant::apps
