#include <fmt/format.h>

#include <memory>

#include "apps/commands.h"
#include "data/shapes.h"

namespace sextant::apps {

void add_shapes_command(CLI::App& app) {
  struct Options {
    std::string out;
    data::ShapesConfig config;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("shapes", "Draw a small detection set of shapes");
  c->add_option("--out", o->out, "Folder to write")->required();
  c->add_option("--train", o->config.train, "Training images")->capture_default_str();
  c->add_option("--val", o->config.val, "Validation images")->capture_default_str();
  c->add_option("--width", o->config.width)->capture_default_str();
  c->add_option("--height", o->config.height)->capture_default_str();
  c->add_option("--seed", o->config.seed)->capture_default_str();
  c->callback([o] {
    data::generate_shapes(o->out, o->config);
    fmt::print("{}: {} training and {} validation images\n", o->out, o->config.train,
               o->config.val);
  });
}

}  // namespace sextant::apps
