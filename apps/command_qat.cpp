#include <memory>

#include "apps/commands.h"
#include "apps/qat.h"
#include "apps/run_options.h"

namespace sextant::apps {

void add_qat_command(Command app) {
  auto o = std::make_shared<RunOptions>();
  Command c = app.add_command(
      "qat", "Quantization-aware training of a trained model, to an int8 deploy file");
  add_run_options(c, *o, "docs/qat.md has every key", "distill.cwd_weight=0");
  c.callback([o] { train_qat(load_qat_config(o->config, o->overrides), o->folder(), o->resume); });
}

}  // namespace sextant::apps
