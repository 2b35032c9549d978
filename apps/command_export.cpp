#include <fmt/format.h>

#include <memory>

#include "apps/checkpoint.h"
#include "apps/commands.h"
#include "deploy/file.h"

namespace sextant::apps {

void add_export_command(CLI::App& app) {
  struct Options {
    std::string model, out;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("export", "Fuse a checkpoint into a float deploy file");
  c->add_option("MODEL", o->model, "Checkpoint")->required();
  c->add_option("--out", o->out, "Deploy file to write")->required();
  c->callback([o] {
    deploy::save_deploy(o->out, load_model_graph(o->model));
    fmt::print("{} written\n", o->out);
  });
}

}  // namespace sextant::apps
