// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/ladder.h"

#include <fmt/format.h>

#include <memory>

#include "apps/cli/run_options.h"
#include "apps/commands/commands.h"

namespace sextant::apps {

void add_ladder_command(Command app) {
  auto o = std::make_shared<RunOptions>();
  Command c =
      app.add_command("ladder", "Compare every way to quantize a model: table, JSON and HTML page");
  add_run_options(c, *o, "an example in configs/, all keys in docs/ladder.md",
                  "partial.max_drop=0.5");
  c.examples({"sextant ladder configs/bccd_ladder.json --out runs/ladder",
              "sextant ladder configs/bccd_ladder.json --out runs/ladder --resume"});
  c.callback([o] {
    const LadderConfig config = parse_ladder_config(o->json(), o->config, o->config_folder());
    const std::filesystem::path out = o->folder();
    const Ladder ladder = climb(config, out, o->resume);
    fmt::print("\n{}written to {}\n", ladder_text(ladder), out.string());
  });
}

}  // namespace sextant::apps
