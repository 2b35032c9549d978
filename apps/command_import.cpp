#include <fmt/format.h>

#include <memory>

#include "apps/commands.h"
#include "apps/import.h"

namespace sextant::apps {

void add_import_command(CLI::App& app) {
  struct Options {
    std::string file, out;
    ImportOptions import;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("import", "Turn a checkpoint of the official YOLOv6 into ours");
  c->add_option("FILE", o->file, "A .pt file, or a .safetensors file of a state dict")->required();
  c->add_option("--out", o->out, "Checkpoint to write")->required();
  c->add_option("--img", o->import.image_size,
                "Image size it was trained at (default: 640, with four levels 1280)");
  c->add_option("--names", o->import.class_names,
                "Class names, separated by commas (default: those in the file)")
      ->delimiter(',');
  c->callback([o] {
    const ImportResult r = import_checkpoint(o->file, o->out, o->import);
    fmt::print("{} written: {}, training mode {}, {} classes, {} tensors\n", o->out,
               r.info.model["type"].get<std::string>(),
               r.info.model["training_mode"].get<std::string>(), r.info.class_names.size(),
               r.tensors);
  });
}

}  // namespace sextant::apps
