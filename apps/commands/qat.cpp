// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/qat.h"

#include <memory>

#include "apps/cli/run_options.h"
#include "apps/commands/commands.h"
#include "apps/commands/shared_work.h"

namespace sextant::apps {

void add_qat_command(Command app) {
  auto o = std::make_shared<RunOptions>();
  Command c = app.add_command(
      "qat", "Quantization-aware training of a float model, to an int8 deploy file");
  add_run_options(c, *o, "an example in configs/, all keys in docs/qat.md", "distill.cwd_weight=0");
  c.examples({"sextant qat configs/bccd_qat.json --out runs/qat",
              "sextant qat configs/bccd_qat.json --set epochs=10 --set loss_weight=0"});
  c.callback([o] {
    run_shared([&] {
      train_qat(parse_qat_config(o->json(), o->config, o->config_folder()), o->folder(), o->resume);
    });
  });
}

}  // namespace sextant::apps
