#include <memory>

#include "apps/checkpoint.h"
#include "apps/commands.h"
#include "apps/detect_command.h"

namespace sextant::apps {

void add_detect_command(Command app) {
  auto o = std::make_shared<DetectOptions>();
  Command c = app.add_command("detect", "Find objects: annotated PNGs and a JSON file");
  add_detect_options(c, *o);
  c.callback([o] { run_detect(*o, load_model_graph); });
}

}  // namespace sextant::apps
