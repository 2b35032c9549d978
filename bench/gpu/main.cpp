// SPDX-License-Identifier: Apache-2.0
// Benchmarks of the CUDA side, as one JSON object on stdout; progress goes to stderr.
// docs/benchmarks.md describes how they are measured.
#include <fmt/format.h>

#include <algorithm>

#include "apps/cli/command_line.h"
#include "core/file.h"
#include "inference.h"
#include "kernels/cuda/runtime.h"
#include "limits.h"
#include "training.h"
#if defined(SEXTANT_CUDNN)
#include "convolutions.h"
#endif

namespace {

using namespace sextant;

enum class Part { kLimits, kConvolutions, kInference, kTraining };
constexpr auto enum_names(Part) {
  return make_enum_names<Part>("part", {{Part::kLimits, "limits"},
                                        {Part::kConvolutions, "convolutions"},
                                        {Part::kInference, "inference"},
                                        {Part::kTraining, "training"}});
}

struct Options {
  std::vector<Part> parts;  // none: all
  std::vector<std::string> models = {"yolov6n_opt", "yolov6s_opt"};
  int64_t batch = 32, size = 640;
  std::string json;
};

Json measure(const Options& o) {
  kernels::start_cuda();
  const auto wanted = [&](Part part) {
    return o.parts.empty() || std::ranges::find(o.parts, part) != o.parts.end();
  };
  Json j = {{"device", bench::describe_device()}};
  if (wanted(Part::kLimits)) j["limits"] = bench::measure_limits();
  for (const std::string& model : o.models) {
    Json& m = j["models"][model];
    m = {{"image_size", o.size}};
#if defined(SEXTANT_CUDNN)
    if (wanted(Part::kConvolutions)) {
      m["convolutions_batch"] = o.batch;
      m["convolutions"] = bench::measure_convolutions(model, o.batch, o.size);
    }
#else
    if (wanted(Part::kConvolutions))
      fmt::print(stderr, "no convolutions: this build has no cuDNN to compare with\n");
#endif
    if (wanted(Part::kInference)) m["inference"] = bench::measure_inference(model, o.size);
    if (wanted(Part::kTraining)) m["training"] = bench::measure_training(model, o.batch, o.size);
  }
  return j;
}

}  // namespace

int main(int argc, char** argv) {
  apps::Program app("Benchmarks on a CUDA device: JSON on stdout", "sextant_bench_gpu");
  Options o;
  app.add_option("--parts NAMES", o.parts, "one or more, separated by commas").default_text("all");
  app.add_option("--models NAMES", o.models, "presets of models").show_default();
  app.add_option("--batch N", o.batch, "images per batch of the convolutions and of training")
      .range(1, 1024)
      .show_default();
  app.add_option("--img SIZE", o.size, "image size").show_default();
  app.add_option("--json FILE", o.json, "write the results to this file instead");
  app.callback([&] {
    const std::string text = measure(o).dump(1) + "\n";
    if (o.json.empty())
      fmt::print("{}", text);
    else
      write_atomically(o.json, text);
  });
  return app.run(argc, argv);
}
