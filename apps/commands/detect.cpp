// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "apps/cli/detect_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"

namespace sextant::apps {

void add_detect_command(Command app) {
  auto o = std::make_shared<DetectOptions>();
  Command c = app.add_command("detect", "Detect objects in images and videos");
  add_detect_options(c, *o, "sextant detect");
  c.callback([o] { run_detect(*o, load_model_graph); });
}

}  // namespace sextant::apps
