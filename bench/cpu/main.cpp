// SPDX-License-Identifier: Apache-2.0
// Figures that need the inside of the engine: the machine's own limit, convolutions layer by layer, a
// training step taken apart. The last line each prints is JSON.
#include <fmt/format.h>

#include "apps/cli/command_line.h"
#include "convolutions.h"
#include "core/parallel.h"
#include "kernels/cpu/isa.h"
#include "loader.h"
#include "peak.h"
#include "train_step.h"

using namespace sextant;

int main(int argc, char** argv) {
  apps::Program app("Benchmarks of the engine's inside", "sextant_bench");
  apps::Command peak = app.add_command("peak", "The machine's f32 multiply-add rate");
  peak.callback([] {
    fmt::print("{}\n", Json{{"what", "peak"},
                            {"isa", name_of(kernels::cpu::isa())},
                            {"threads", num_threads()},
                            {"gflops", bench::peak_gflops()}}
                           .dump());
  });

  bench::ConvOptions conv;
  apps::Command convolutions =
      app.add_command("conv", "The convolutions of a model, layer by layer, beside oneDNN's");
  convolutions.add_option("--model NAME", conv.preset, "preset: yolov6n_opt, yolov6s_opt, ...")
      .show_default();
  convolutions.add_option("--kind NAME", conv.kind, "forward, data, weight (the gradients) or int8")
      .show_default();
  convolutions.add_option("--batch N", conv.batch, "images").show_default();
  convolutions.add_option("--img SIZE", conv.image_size, "image size").show_default();
  convolutions.add_option("--runs N", conv.runs, "timed runs").show_default();
  convolutions.add_flag("--all", conv.all_algorithms, "each algorithm, not only the one chosen");
  convolutions.callback([&] { fmt::print("{}\n", bench::convolutions(conv).dump()); });

  bench::StepOptions o;
  apps::Command step = app.add_command("train_step", "A training step of YOLOv6-N in its parts");
  step.add_option("--batch N", o.batch, "images per step").show_default();
  step.add_option("--img SIZE", o.image_size, "image size").show_default();
  step.add_option("--classes N", o.classes, "classes of the model").show_default();
  step.add_option("--runs N", o.runs, "timed steps").show_default();
  step.add_option("--mode NAME", o.mode, "blocks in training, as model.training_mode");
  step.callback([&] { fmt::print("{}\n", bench::train_step(o).dump()); });

  bench::LoaderOptions load;
  apps::Command loader =
      app.add_command("loader", "Images per second that the data loader prepares, nothing cached");
  loader.add_option("--data DATA", load.data, "dataset: a folder, a JSON file or a data.yaml")
      .required();
  loader.add_option("--split NAME", load.split, "split to load").show_default();
  loader.add_option("--batch N", load.batch, "images per batch").show_default();
  loader.add_option("--img SIZE", load.image_size, "image size").show_default();
  loader.add_option("--images N", load.images, "images per measurement").show_default();
  loader.add_option("--threads N", load.threads, "loader threads").show_default();
  loader.callback([&] { fmt::print("{}\n", bench::loader(load).dump()); });
  app.require_command();
  return app.run(argc, argv);
}
