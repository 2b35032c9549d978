// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/export.h"

#include <fmt/format.h>

#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "deploy/engine/selftest.h"
#include "models/import/torch_file.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string model, out, pt, onnx;
  std::optional<deploy::OnnxPrecision> precision;
  std::optional<deploy::OnnxTarget> target;
  deploy::OnnxOptions model_options;
  deploy::OnnxNms nms;
  bool suppress = false;
  ImageSize image_size;
};

void write_onnx(Options& o) {
  deploy::Graph graph = load_model_graph(o.model);
  deploy::OnnxOptions& options = o.model_options;
  options.precision = o.precision.value_or(graph.quantized() ? deploy::OnnxPrecision::kInt8
                                                             : deploy::OnnxPrecision::kFloat32);
  check(!o.target || options.precision == deploy::OnnxPrecision::kInt8,
        "export: --for has no effect on {} models: it says where int8 models have Q/DQ pairs",
        name_of(options.precision));
  options.target = o.target.value_or(options.target);
  options.height = o.image_size.choose(graph);
  options.width = graph.width_for(options.height);
  check(!o.nms.multi_label || !graph.decode() ||
            graph.decode()->as<deploy::DecodeAttributes>().num_classes > 1,
        "export: --multi-label has no effect on {}: the model has one class", o.model);
  if (o.suppress) options.nms = o.nms;
  deploy::save_onnx(o.onnx, graph, options);
}

// Returns --batch.
Option add_onnx_options(Command c, Options& o, Option onnx) {
  const auto of_onnx = [&](Option option) { return option.needs(onnx).group("With --onnx"); };
  of_onnx(c.add_option("--precision NAME", o.precision,
                       "precision of the ONNX model, int8 as Q/DQ pairs")
              .default_text("int8 for a quantized model, else fp32"));
  of_onnx(add_image_size_option(c, o.image_size));
  const Option batch = of_onnx(c.add_option("--batch N", o.model_options.batch, "images per run")
                                   .range(1, 4096)
                                   .show_default());
  of_onnx(c.add_flag("--dynamic-batch", o.model_options.dynamic_batch,
                     "accept any number of images per run"));
  of_onnx(c.add_flag("--dynamic-size", o.model_options.dynamic_size,
                     "accept images of any height and width that the strides divide"));
  of_onnx(c.add_option("--for RUNTIME", o.target,
                       "int8: place Q/DQ pairs as this runtime's integer kernels want them")
              .default_text("openvino"));
  Option nms = of_onnx(c.add_flag("--nms", o.suppress,
                                  "add non-maximum suppression; the outputs are num_dets, "
                                  "det_boxes, det_scores and det_classes"));
  const auto of_nms = [&](Option option) {
    return option.needs(onnx).needs(nms).group("With --onnx and --nms");
  };
  of_nms(
      c.add_option("--conf X", o.nms.conf, "minimum confidence").range(1e-6, 1.0).show_default());
  of_nms(c.add_option("--iou X", o.nms.iou, "IoU threshold of non-maximum suppression")
             .range(0.0, 1.0)
             .show_default());
  of_nms(c.add_option("--max-det N", o.nms.max_det, "maximum number of boxes per image")
             .range(1, 30000)
             .show_default());
  of_nms(c.add_flag("--multi-label", o.nms.multi_label,
                    "keep a box for every class above --conf, not only for the best one"));
  return batch;
}

}  // namespace

void add_export_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command("export", "Write a model as a deploy file, for PyTorch, or as ONNX");
  add_model_argument(c, o->model);
  Option out = c.add_option("--out FILE", o->out, "write a fused float deploy file").writes();
  Option pt =
      c.add_option("--pt FILE", o->pt, "write the state dict of a checkpoint, for torch.load")
          .writes();
  Option onnx = c.add_option("--onnx FILE", o->onnx, "write an ONNX model").writes();
  const Option batch = add_onnx_options(c, *o, onnx);
  c.examples({"sextant export best.safetensors --out model.safetensors",
              "sextant export int8.safetensors --onnx model.onnx --nms"});
  c.callback([o, out, pt, onnx, batch] {
    check(out.given() || pt.given() || onnx.given(), "export: give --out, --pt or --onnx");
    check(
        !batch.given() || !o->model_options.dynamic_batch,
        "export: --batch has no effect with --dynamic-batch: the model takes any number of images");
    check(o->image_size.text.empty() || !o->model_options.dynamic_size,
          "export: --img has no effect with --dynamic-size: the model takes images of any size");
    if (out.given()) {
      deploy::save_with_proof(o->out, load_model_graph(o->model));
      fmt::print("{} written\n", o->out);
    }
    if (pt.given()) {
      const SafeTensors file = load_safetensors(o->model);
      load_checkpoint(file);  // checks that it holds the tensors of a model
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
