#include "apps/model_files/import.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "apps/commands/commands.h"
#include "deploy/graph/file.h"
#include "deploy/onnx/import.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string file, out;
  bool maps = false;
  ImportOptions import;
};

void read_checkpoint(const Options& o) {
  const ImportResult r = import_checkpoint(o.file, o.out, o.import);
  fmt::print("{} written: {}, training mode {}, {} classes, {} tensors\n", o.out,
             r.info.model["type"].get<std::string>(),
             r.info.model["training_mode"].get<std::string>(), r.info.class_names.size(),
             r.tensors);
}

void read_onnx(const Options& o) {
  const deploy::Graph graph =
      deploy::load_onnx(o.file, {o.import.image_size, o.import.class_names, o.maps});
  deploy::save_deploy(o.out, graph);
  const auto layers = std::ranges::count_if(graph.nodes, &deploy::Node::has_weight);
  fmt::print("{} written: {} nodes, {} of them with weights, {}\n", o.out, graph.nodes.size(),
             layers, graph.quantized() ? "int8" : "fp32");
}

}  // namespace

void add_import_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command(
      "import", "Turn a checkpoint of the official YOLOv6, or an ONNX model, into ours");
  c.add_option("FILE", o->file,
               "A .pt file or a .safetensors file of a state dict; or a .onnx model")
      .reads()
      .required();
  c.add_option("--out", o->out, "Checkpoint to write; of an ONNX model, the deploy file")
      .writes()
      .required();
  c.add_option("--img", o->import.image_size,
               "Image size it was trained at (default: 640, with four levels 1280; of an ONNX "
               "model, its own)");
  c.add_option("--names", o->import.class_names,
               "Class names, separated by commas (default: those in the file)")
      .delimiter(',');
  c.add_flag("--maps", o->maps,
             "Of an ONNX model: its outputs are the maps of a YOLOv6 head, class logits and "
             "distances of each level; decode them");
  c.callback([o] {
    if (std::filesystem::path(o->file).extension() == ".onnx")
      read_onnx(*o);
    else
      read_checkpoint(*o);
  });
}

}  // namespace sextant::apps
