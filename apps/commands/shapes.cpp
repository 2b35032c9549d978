// SPDX-License-Identifier: Apache-2.0
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
  Command c = app.add_command("shapes", "Draw a small detection dataset of shapes");
  c.add_option("--out DIR", o->out, "folder to write").required();
  c.add_option("--train N", o->config.train, "training images").show_default();
  c.add_option("--val N", o->config.val, "validation images").show_default();
  c.add_option("--width N", o->config.width, "width of an image").show_default();
  c.add_option("--height N", o->config.height, "height of an image").show_default();
  c.add_option("--max-shapes N", o->config.max_shapes, "most shapes in an image").show_default();
  c.add_option("--min-size X", o->config.min_size,
               "smallest shape, as a part of the image's shorter side")
      .show_default();
  c.add_option("--max-size X", o->config.max_size, "largest shape").show_default();
  c.add_option("--seed N", o->config.seed, "seed of the drawing; same seed, same images")
      .show_default();
  c.examples({"sextant shapes --out demo/shapes --train 400 --val 80",
              "sextant shapes --out large --max-shapes 4 --min-size 0.25 --max-size 0.7"});
  c.callback([o] {
    data::generate_shapes(o->out, o->config);
    fmt::print("{}: {} training and {} validation images\n", o->out, o->config.train,
               o->config.val);
  });
}

}  // namespace sextant::apps
