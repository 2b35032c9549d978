#include <fmt/format.h>

#include <memory>

#include "apps/commands.h"
#include "apps/ladder.h"

namespace sextant::apps {

void add_ladder_command(CLI::App& app) {
  struct Options {
    std::string config, out;
    std::vector<std::string> overrides;
    bool resume = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "ladder", "Every way to quantize one model, side by side: table, JSON and HTML page");
  c->add_option("CONFIG", o->config, "JSON config; docs/ladder.md has every key")->required();
  c->add_option("--set", o->overrides, "Override a key: --set partial.max_drop=0.5")
      ->allow_extra_args(false);
  c->add_option("--out", o->out, "Folder (default: runs/<config name>)");
  c->add_flag("--resume", o->resume, "Go on with the ladder in the folder");
  c->callback([o] {
    const LadderConfig config = load_ladder_config(o->config, o->overrides);
    const std::filesystem::path out =
        o->out.empty() ? std::filesystem::path("runs") / std::filesystem::path(o->config).stem()
                       : std::filesystem::path(o->out);
    const Ladder ladder = climb(config, out, o->resume);
    fmt::print("\n{}written to {}\n", ladder_text(ladder), out.string());
  });
}

}  // namespace sextant::apps
