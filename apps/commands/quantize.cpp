#include <fmt/format.h>

#include <memory>

#include "apps/cli/command_line.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "apps/quantizing/calibrate.h"
#include "core/progress.h"
#include "data/dataset/dataset.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/evaluation.h"
#include "deploy/graph/file.h"
#include "quant/ptq/ptq.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string model, data, split = "train", out, device = "auto";
  int image_size = 0;
  int64_t batch = 1;
  bool keep_identity = false;
  quant::PtqConfig ptq;
};

void add_options(Command c, Options& o) {
  c.add_option("MODEL", o.model, "Checkpoint or deploy file").reads().required();
  c.add_option("--data", o.data, "Dataset: folder, JSON or data.yaml").reads_data().required();
  c.add_option("--split", o.split, "Split to calibrate on").show_default();
  c.add_option("--method", o.ptq.method, "How ranges of activations are chosen")
      .one_of({"mse", "percentile", "entropy", "max"})
      .show_default();
  c.add_option("--percentile", o.ptq.percentile, "For --method percentile")
      .range(50.0, 100.0)
      .show_default();
  c.add_option("--weights", o.ptq.weights, "How ranges of a channel's weights are chosen")
      .one_of({"max", "mse"})
      .show_default();
  c.add_flag("--naive", o.ptq.naive,
             "One scale per weight tensor, activations by max: the baseline that collapses");
  c.add_flag("--equalize{activations}", o.ptq.equalize,
             "Cross-layer equalization, by activations or =weights")
      .one_of({"none", "weights", "activations"});
  c.add_flag("--no-split-identity", o.keep_identity,
             "Leave the identity of RepVGG and RepOptimizer blocks in the weights");
  c.add_flag("--bias-correction", o.ptq.bias_correction,
             "Take away shifts of the means, layer by layer");
  c.add_option("--float", o.ptq.float_layers,
               "Layers that stay in float: names, or patterns with * and ?");
  c.add_option("--rounding", o.ptq.rounding, "Of weights: to nearest, or learned layer by layer")
      .one_of({"nearest", "adaround"})
      .show_default();
  c.add_option("--rounding-iterations", o.ptq.adaround.iterations, "Of --rounding adaround")
      .range(1, 1000000)
      .show_default();
  c.add_option("--rounding-regulariser", o.ptq.adaround.regulariser, "Of --rounding adaround")
      .range(0.0, 1e6)
      .show_default();
  c.add_option("--images", o.ptq.images, "Images to calibrate on").range(1, 1000000).show_default();
  c.add_option("--layer-images", o.ptq.layer_images,
               "Of these, as many for the methods that go layer by layer")
      .range(1, 100000)
      .show_default();
  c.add_option("--batch", o.batch, "Images at a time; the ranges do not depend on it")
      .range(1, 1024)
      .show_default();
  c.add_option("--seed", o.ptq.seed, "Of the pixels that learned rounding looks at").show_default();
  c.add_option("--img", o.image_size, "Image size (default: as trained)").range(1, 8192);
  add_device_option(c, o.device);
  c.add_option("--out", o.out, "Deploy file to write").writes().required();
}

void print_report(const Options& o, const quant::PtqReport& r) {
  size_t tensors = 0;
  for (const auto& g : r.groups) tensors += g.tensors.size();
  fmt::print(
      "{}: {} tensors' ranges in {} groups from {} images ({}), {} requantizations; {:.2f} MB\n",
      o.out, tensors, r.groups.size(), r.images, o.ptq.naive ? "naive: max" : o.ptq.method,
      r.requantizations, static_cast<double>(std::filesystem::file_size(o.out)) / 1e6);
  if (r.split.layers > 0)
    fmt::print("took the identity out of {} layers: {:.1f} dB less noise of rounded weights\n",
               r.split.layers, r.split.gain_db);
  if (!o.ptq.float_layers.empty())
    fmt::print("{} of {} layers stay in float\n", r.float_layers, r.layers);
  if (o.ptq.equalize != "none")
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
  Command c = app.add_command("quantize", "Post-training quantization to an int8 deploy file");
  add_options(c, *o);
  c.callback([o] {
    const deploy::Graph graph = load_model_graph(o->model);
    const int size = deploy::choose_image_size(o->image_size, graph, "--img");
    const data::Dataset dataset = deploy::open_dataset_for(graph, o->data, o->split);
    o->ptq.device = deploy::choose_device(o->device);
    o->ptq.split_identity = !o->keep_identity;
    quant::PtqReport report;
    const deploy::Graph quantized = quant::quantize(
        graph, spread_images(dataset, o->ptq.images, size, graph.gray_border, o->batch), o->ptq,
        &report);
    deploy::save_deploy(o->out, quantized);
    print_report(*o, report);
  });
}

}  // namespace sextant::apps
