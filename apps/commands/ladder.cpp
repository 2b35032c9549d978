#include "apps/quantizing/ladder.h"

#include <fmt/format.h>

#include <memory>

#include "apps/cli/run_options.h"
#include "apps/commands/commands.h"

namespace sextant::apps {

void add_ladder_command(Command app) {
  auto o = std::make_shared<RunOptions>();
  Command c = app.add_command(
      "ladder", "Every way to quantize one model, side by side: table, JSON and HTML page");
  add_run_options(c, *o, "docs/ladder.md has every key", "partial.max_drop=0.5");
  c.callback([o] {
    const LadderConfig config = load_ladder_config(o->config, o->overrides);
    const std::filesystem::path out = o->folder();
    const Ladder ladder = climb(config, out, o->resume);
    fmt::print("\n{}written to {}\n", ladder_text(ladder), out.string());
  });
}

}  // namespace sextant::apps
