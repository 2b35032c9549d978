// SPDX-License-Identifier: Apache-2.0
// sextant-infer: runs a deploy file on images. Links no training code.
#include "apps/cli/command_line.h"
#include "apps/cli/detect_options.h"
#include "deploy/detect/choices.h"
#include "deploy/graph/file.h"
#include "kernels/cuda/runtime.h"

int main(int argc, char** argv) {
  sextant::apps::Program app(
      "Detect objects with a Sextant deploy file; writes annotated pictures and JSON",
      "sextant-infer");
  sextant::deploy::set_cuda_starter(
      {sextant::kernels::cuda_available, sextant::kernels::start_cuda});
  sextant::apps::DetectOptions options;
  sextant::apps::add_detect_options(app, options, "sextant-infer");
  app.callback([&] {
    sextant::apps::run_detect(
        options, [](const std::string& path) { return sextant::deploy::load_deploy(path); });
  });
  return app.run(argc, argv);
}
