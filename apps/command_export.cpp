#include <fmt/format.h>

#include <memory>

#include "apps/checkpoint.h"
#include "apps/commands.h"
#include "core/torch_file.h"
#include "deploy/file.h"

namespace sextant::apps {

void add_export_command(CLI::App& app) {
  struct Options {
    std::string model, out, pt;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "export", "Write a checkpoint as a fused float deploy file, or for PyTorch");
  c->add_option("MODEL", o->model, "Checkpoint")->required();
  CLI::Option* out = c->add_option("--out", o->out, "Deploy file to write");
  CLI::Option* pt = c->add_option("--pt", o->pt, "State dict to write, for torch.load");
  c->callback([o, out, pt] {
    check(*out || *pt, "export: needs --out or --pt");
    if (*out) {
      deploy::save_deploy(o->out, load_model_graph(o->model));
      fmt::print("{} written\n", o->out);
    }
    if (*pt) {
      const SafeTensors file = load_safetensors(o->model);
      check_is_checkpoint(file);
      save_torch_state_dict(o->pt, file);
      fmt::print("{} written\n", o->pt);
    }
  });
}

}  // namespace sextant::apps
