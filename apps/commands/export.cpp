#include "deploy/onnx/export.h"

#include <fmt/format.h>

#include <memory>

#include "apps/cli/command_line.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "deploy/detect/choices.h"
#include "deploy/graph/file.h"
#include "models/import/torch_file.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string model, out, pt, onnx;
  std::string precision;
  deploy::OnnxOptions model_options;
  deploy::OnnxNms nms;
  bool suppress = false;
  int image_size = 0;
};

void write_onnx(Options& o) {
  const deploy::Graph graph = load_model_graph(o.model);
  deploy::OnnxOptions& options = o.model_options;
  options.precision = !o.precision.empty() ? from_name<deploy::OnnxPrecision>(o.precision)
                      : graph.quantized()  ? deploy::OnnxPrecision::kInt8
                                           : deploy::OnnxPrecision::kFloat32;
  options.height = options.width = deploy::choose_image_size(o.image_size, graph, "--img");
  if (o.suppress) options.nms = o.nms;
  deploy::save_onnx(o.onnx, graph, options);
}

void add_onnx_options(Command c, Options& o, Option onnx) {
  std::vector<Option> all;
  all.push_back(c.add_option("--precision", o.precision,
                             "ONNX: fp32, fp16 or int8 as QDQ (default: int8 if quantized)")
                    .one_of({"fp32", "fp16", "int8"}));
  all.push_back(
      c.add_option("--img", o.image_size, "ONNX: image size (default: as trained)").range(1, 8192));
  all.push_back(c.add_option("--batch", o.model_options.batch, "ONNX: images per run")
                    .range(1, 4096)
                    .show_default());
  all.push_back(c.add_flag("--dynamic-batch", o.model_options.dynamic_batch,
                           "ONNX: any number of images per run"));
  all.push_back(c.add_flag("--for-onnxruntime", o.model_options.for_onnxruntime,
                           "ONNX int8: Q/DQ as ONNX Runtime's integer convolutions want them"));
  Option nms = c.add_flag("--nms", o.suppress,
                          "ONNX: suppression in the graph; outputs num_dets, "
                          "det_boxes, det_scores, det_classes");
  all.push_back(nms);
  const auto of_nms = [&](Option option) {
    option.needs(nms);
    all.push_back(option);
  };
  of_nms(c.add_option("--conf", o.nms.conf, "ONNX: least score of a box")
             .range(1e-6, 1.0)
             .show_default());
  of_nms(c.add_option("--iou", o.nms.iou, "ONNX: boxes of a class that overlap more are one")
             .range(0.0, 1.0)
             .show_default());
  of_nms(c.add_option("--max-det", o.nms.max_det,
                      "ONNX: boxes per image (default: 300, or all that the model has)")
             .range(1, 30000));
  of_nms(c.add_flag("--multi-label", o.nms.multi_label,
                    "ONNX: every class above --conf, not only the best"));
  for (Option option : all) option.needs(onnx);
}

}  // namespace

void add_export_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command(
      "export", "Write a model as a fused float deploy file, for PyTorch, or as ONNX");
  c.add_option("MODEL", o->model, "Checkpoint; for --onnx also a deploy file").reads().required();
  Option out = c.add_option("--out", o->out, "Deploy file to write").writes();
  Option pt = c.add_option("--pt", o->pt, "State dict to write, for torch.load").writes();
  Option onnx = c.add_option("--onnx", o->onnx, "ONNX model to write").writes();
  add_onnx_options(c, *o, onnx);
  c.callback([o, out, pt, onnx] {
    check(out.given() || pt.given() || onnx.given(), "export: needs --out, --pt or --onnx");
    if (out.given()) {
      deploy::save_deploy(o->out, load_model_graph(o->model));
      fmt::print("{} written\n", o->out);
    }
    if (pt.given()) {
      const SafeTensors file = load_safetensors(o->model);
      load_checkpoint(file);  // what it holds is what a model takes
      save_torch_state_dict(o->pt, file);
      fmt::print("{} written\n", o->pt);
    }
    if (onnx.given()) {
      write_onnx(*o);
      fmt::print("{} written\n", o->onnx);
    }
  });
}

}  // namespace sextant::apps
