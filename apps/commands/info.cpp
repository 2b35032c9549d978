// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/info.h"

#include <fmt/format.h>

#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "core/file.h"
#include "deploy/detect/choices.h"
#include "deploy/engine/engine.h"
#include "deploy/engine/pass_report.h"
#include "kernels/cpu/isa.h"
#include "models/import/official_form.h"

namespace sextant::apps {
namespace {

// The size of the weights as an engine on this processor packs them for its kernels.
void print_packed_weights(const deploy::Graph& graph, int size) {
  using deploy::Precision;
  std::vector<Precision> precisions = {Precision::kFloat32};
  if (graph.quantized()) precisions.push_back(Precision::kInt8);
  for (const Precision precision : precisions) {
    const deploy::Engine engine(
        graph, {.height = size, .width = graph.width_for(size), .precision = precision});
    fmt::print("packed weights, {} on {}: {:.1f} MB\n", name_of(precision),
               name_of(kernels::cpu::isa()),
               static_cast<double>(engine.stats().weight_bytes) / 1e6);
  }
}

void print_proof(const deploy::Proof& proof) {
  if (proof.stale) fmt::print("what the file said of itself belongs to another version of it\n");
  if (const auto& c = proof.calibration)
    fmt::print("calibrated on {} images of {}, {}; data {}\n", c->images, c->data, c->method,
               c->data_hash);
  if (const auto& m = proof.measured)
    fmt::print(
        "mAP50-95 {:.4f}, mAP50 {:.4f} in {} at {} px on {}; best confidence {:.3f} (F1 "
        "{:.4f}); data {}\n",
        m->map50_95, m->map50, m->precision, m->image_size, m->data, m->confidence, m->f1,
        m->data_hash);
  if (!proof.golden.empty())
    fmt::print("golden integers of {} tensors: `--selftest` compares them\n", proof.golden.size());
}

}  // namespace

void add_info_command(Command app) {
  struct Options {
    std::string model, json;
    ImageSize image_size;
    bool passes = false;
    int time = 0;
  };
  auto o = std::make_shared<Options>();
  Command c =
      app.add_command("info", "Show layers, shapes, parameters, FLOPs, precisions and scales");
  add_model_argument(c, o->model);
  add_image_size_option(c, o->image_size);
  Option passes = c.add_flag("--passes", o->passes,
                             "show the effect of each graph pass on nodes, requantizations and "
                             "bytes moved: all passes for a "
                             "checkpoint, those on ranges for a deploy file");
  c.add_option("--time N", o->time,
               "with --passes: time the int8 engine without each pass, in N runs")
      .range(1, 100000)
      .needs(passes);
  c.add_option("--json FILE", o->json, "write the table to this file").writes();
  c.examples({"sextant info int8.safetensors", "sextant info best.safetensors --passes"});
  c.callback([o] {
    auto [graph, model] = load_model_file(o->model);
    const int size = o->image_size.choose(graph);
    const int64_t width = graph.width_for(size);
    if (o->passes) {
      const auto report =
          deploy::report_passes(model ? trace_graph(*model) : graph, {size, width, o->time});
      fmt::print("{}", deploy::format_passes(report));
      if (!o->json.empty())
        write_atomically(o->json, json_text(deploy::passes_to_json(report), 2) + "\n");
      return;
    }
    const auto summary = deploy::summarize(graph, size, width);
    fmt::print("{}", deploy::format_summary(summary));
    print_packed_weights(graph, size);
    print_proof(graph.proof);
    if (model)
      fmt::print("the official deploy form, which fuses less: {:.3f} M parameters\n",
                 static_cast<double>(official_deploy_parameters(*model)) / 1e6);
    if (!o->json.empty())
      write_atomically(o->json, json_text(deploy::summary_to_json(summary), 2) + "\n");
  });
}

}  // namespace sextant::apps
