// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/command_line.h"
#include "apps/commands/commands.h"
#include "deploy/detect/choices.h"
#include "kernels/cuda/runtime.h"

int main(int argc, char** argv) {
  using namespace sextant::apps;
  sextant::deploy::set_cuda_starter(
      {sextant::kernels::cuda_available, sextant::kernels::start_cuda});
  Program app("Sextant: train YOLOv6 detectors, quantize them, run them in int8", "sextant");
  add_commands(app);
  app.require_command();
  app.examples(
      {"sextant shapes --out demo/shapes", "sextant train configs/demo.json --out runs/demo",
       "sextant quantize runs/demo/model.safetensors --data demo/shapes --out int8.safetensors",
       "sextant detect int8.safetensors demo/shapes/images/val --out found"});
  return app.run(argc, argv);
}
