// SPDX-License-Identifier: Apache-2.0
#include "apps/model_files/import.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "deploy/engine/selftest.h"
#include "deploy/onnx/import.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string file, out, size;
  bool maps = false;
  ImportOptions import;
};

void read_checkpoint(Options& o) {
  const auto [size, width] = height_and_width(o.size, "--img");
  check(width == 0, "--img {}: a checkpoint takes one size", o.size);
  o.import.image_size = size;
  const ImportResult r = import_checkpoint(o.file, o.out, o.import);
  fmt::print("{} written: {}, training mode {}, {} classes, {} tensors\n", o.out,
             r.info.model["type"].get<std::string>(),
             r.info.model["training_mode"].get<std::string>(), r.info.class_names.size(),
             r.tensors);
}

void read_onnx(const Options& o) {
  const auto sides = height_and_width(o.size, "--img");
  const deploy::Graph graph =
      deploy::load_onnx(o.file, {sides[0], o.import.class_names, o.maps, sides[1]});
  deploy::save_with_proof(o.out, graph);
  const auto layers = std::ranges::count_if(graph.nodes, &deploy::Node::has_weight);
  fmt::print("{} written: {} nodes, {} of them with weights, {}\n", o.out, graph.nodes.size(),
             layers, graph.quantized() ? "int8" : "fp32");
}

}  // namespace

void add_import_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c =
      app.add_command("import", "Convert a checkpoint of the official YOLOv6, or an ONNX model");
  c.add_option("FILE", o->file,
               "a .pt file, a .safetensors file with a state dict, or a .onnx model")
      .reads()
      .required();
  c.add_option("--out FILE", o->out, "checkpoint to write; for an ONNX model, deploy file to write")
      .writes()
      .required();
  c.add_option("--img SIZE", o->size,
               "image size the model was trained at; of an ONNX model, also height and width, "
               "separated by a comma")
      .default_text("640, 1280 for four levels, or what an ONNX model says");
  c.add_option("--names NAMES", o->import.class_names, "class names, separated by commas")
      .delimiter(',')
      .default_text("those in the file");
  c.add_flag("--maps", o->maps,
             "the outputs of an ONNX model are the raw maps of a YOLOv6 head (class logits and "
             "distances of each level): decode them");
  c.examples({"sextant import yolov6n.pt --out yolov6n.safetensors",
              "sextant import model.onnx --out model.safetensors --names cat,dog"});
  c.callback([o] {
    if (std::filesystem::path(o->file).extension() == ".onnx")
      read_onnx(*o);
    else
      read_checkpoint(*o);
  });
}

}  // namespace sextant::apps
