#include <fmt/format.h>

#include <memory>

#include "apps/commands/commands.h"
#include "data/synthetic/shapes_dataset.h"

namespace sextant::apps {

void add_shapes_command(Command app) {
  struct Options {
    std::string out;
    data::ShapesConfig config;
  };
  auto o = std::make_shared<Options>();
  Command c = app.add_command("shapes", "Draw a small detection set of shapes");
  c.add_option("--out", o->out, "Folder to write").required();
  c.add_option("--train", o->config.train, "Training images").show_default();
  c.add_option("--val", o->config.val, "Validation images").show_default();
  c.add_option("--width", o->config.width).show_default();
  c.add_option("--height", o->config.height).show_default();
  c.add_option("--seed", o->config.seed).show_default();
  c.callback([o] {
    data::generate_shapes(o->out, o->config);
    fmt::print("{}: {} training and {} validation images\n", o->out, o->config.train,
               o->config.val);
  });
}

}  // namespace sextant::apps
