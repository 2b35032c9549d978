// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "apps/quantizing/calibrate.h"
#include "core/progress.h"
#include "data/dataset/dataset.h"
#include "deploy/detect/evaluation.h"
#include "deploy/engine/selftest.h"
#include "quant/ptq/ptq.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string model, data, split = "train", out;
  deploy::DeviceChoice device = deploy::DeviceChoice::kAuto;
  ImageSize image_size;
  int64_t batch = 1;
  bool keep_identity = false;
  quant::PtqConfig ptq;
};

void add_options(Command c, Options& o) {
  add_model_argument(c, o.model);
  add_data_option(c, o.data);
  c.add_option("--split NAME", o.split, "split to calibrate on").show_default();
  c.add_option("--out FILE", o.out, "deploy file to write").writes().required();
  add_image_size_option(c, o.image_size);
  c.add_option("--images N", o.ptq.images, "images to calibrate on")
      .range(1, 1000000)
      .show_default();
  c.add_option("--layer-images N", o.ptq.layer_images,
               "how many of them the layer-by-layer methods use")
      .range(1, 100000)
      .show_default();
  c.add_option("--batch N", o.batch, "images at a time; does not change the ranges")
      .range(1, 1024)
      .show_default();
  add_device_option(c, o.device);
}

void add_method_options(Command c, Options& o) {
  const std::string group = "Method";
  c.add_option("--method NAME", o.ptq.method, "how the ranges of activations are chosen")
      .group(group);
  c.add_option("--percentile X", o.ptq.percentile, "percentile of |x|, for --method percentile")
      .range(50.0, 100.0)
      .show_default()
      .group(group);
  c.add_option("--weights NAME", o.ptq.weights, "how the range of each channel's weights is chosen")
      .group(group);
  c.add_flag("--naive", o.ptq.naive,
             "the baseline: one scale per weight tensor, activations by their maximum")
      .group(group);
  c.add_flag("--equalize[=HOW]", o.ptq.equalize, quant::Equalization::kActivations,
             "cross-layer equalization, by activations or, with =weights, by weights alone")
      .group(group);
  c.add_flag("--no-split-identity", o.keep_identity,
             "leave the identity of RepVGG and RepOptimizer blocks in the weights")
      .group(group);
  c.add_flag(
       "--signed", o.ptq.signed_ranges,
       "activations as signed integers only, as `export --for tensorrt` writes them; layers that "
       "read the image stay in float")
      .group(group);
  c.add_flag("--bias-correction", o.ptq.bias_correction,
             "remove the shift of each channel's mean, layer by layer")
      .group(group);
  c.add_option("--float NAMES", o.ptq.float_layers,
               "layers to keep in float: names, or patterns with * and ?")
      .group(group);
  c.add_option("--rounding NAME", o.ptq.rounding, "how weights are rounded (adaround learns it)")
      .group(group);
  c.add_option("--rounding-iterations N", o.ptq.adaround.iterations, "for --rounding adaround")
      .range(1, 1000000)
      .show_default()
      .group(group);
  c.add_option("--rounding-regulariser X", o.ptq.adaround.regulariser, "for --rounding adaround")
      .range(0.0, 1e6)
      .show_default()
      .group(group);
  c.add_option("--seed N", o.ptq.seed, "seed of the pixels that adaround samples")
      .show_default()
      .group(group);
}

void print_report(const Options& o, const quant::PtqReport& r) {
  size_t tensors = 0;
  for (const auto& g : r.groups) tensors += g.tensors.size();
  fmt::print(
      "{}: {} tensors' ranges in {} groups from {} images ({}), {} requantizations; {:.2f} MB\n",
      o.out, tensors, r.groups.size(), r.images, o.ptq.naive ? "naive: max" : name_of(o.ptq.method),
      r.requantizations, static_cast<double>(std::filesystem::file_size(o.out)) / 1e6);
  if (r.split.layers > 0)
    fmt::print("split the identity off {} layers: {:.1f} dB less noise of rounded weights\n",
               r.split.layers, r.split.gain_db);
  if (!o.ptq.float_layers.empty() || o.ptq.signed_ranges)
    fmt::print("{} of {} layers stay in float\n", r.float_layers, r.layers);
  if (o.ptq.equalize != quant::Equalization::kNone)
    fmt::print(
        "equalized {} channels between {} pairs of convolutions, factors up to {:.1f} ({})\n",
        r.equalization.channels, r.equalization.pairs, r.equalization.largest,
        format_duration(r.equalize_seconds));
  const quant::LayerCorrectionReport& f = r.refinement;
  if (f.layers_rounded > 0)
    fmt::print(
        "learned the rounding of {} layers: {:.1f}% of the weights moved, {:.2f} dB less "
        "error per layer\n",
        f.layers_rounded,
        100.0 * static_cast<double>(f.weights_moved) / static_cast<double>(f.weights),
        f.rounding_gain_db);
  if (f.layers_corrected > 0) fmt::print("corrected the biases of {} layers\n", f.layers_corrected);
  if (r.refine_seconds > 0)
    fmt::print("signal to quantization noise at the head: {:.2f} dB, before {:.2f} dB ({})\n",
               r.sqnr, r.sqnr_before, format_duration(r.refine_seconds));
  else
    fmt::print("signal to quantization noise at the head: {:.2f} dB\n", r.sqnr);
}

}  // namespace

void add_quantize_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command("quantize", "Quantize a trained model to int8, without training");
  add_options(c, *o);
  add_method_options(c, *o);
  c.examples(
      {"sextant quantize best.safetensors --data /data/bccd --out int8.safetensors",
       "sextant quantize best.safetensors --data /data/bccd --out int8.safetensors --equalize "
       "--rounding adaround"});
  c.callback([o] {
    deploy::Graph graph = load_model_graph(o->model);
    const int size = o->image_size.choose(graph);
    const data::Dataset dataset = deploy::open_dataset_for(graph, o->data, o->split);
    o->ptq.device = deploy::choose_device(o->device);
    o->ptq.split_identity = !o->keep_identity;
    quant::PtqReport report;
    deploy::Graph quantized = quant::quantize(
        graph, spread_images(dataset, o->ptq.images, size, graph, o->batch), o->ptq, &report);
    quantized.proof.calibration = {
        {data_title(dataset), data::fingerprint(dataset),
         o->ptq.naive ? "naive: max" : std::string(name_of(o->ptq.method)), report.images}};
    deploy::save_with_proof(o->out, quantized);
    print_report(*o, report);
  });
}

}  // namespace sextant::apps
