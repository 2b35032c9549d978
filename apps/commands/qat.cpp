#include "apps/quantizing/qat.h"

#include <memory>

#include "apps/cli/run_options.h"
#include "apps/commands/commands.h"

namespace sextant::apps {

void add_qat_command(Command app) {
  auto o = std::make_shared<RunOptions>();
  Command c = app.add_command(
      "qat", "Quantization-aware training of a trained model, to an int8 deploy file");
  add_run_options(c, *o, "docs/qat.md has every key", "distill.cwd_weight=0");
  c.callback([o] { train_qat(load_qat_config(o->config, o->overrides), o->folder(), o->resume); });
}

}  // namespace sextant::apps
