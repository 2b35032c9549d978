// Figures of the CUDA side, as one JSON object on stdout; progress goes to stderr.
// docs/benchmarks.md says how they are taken.
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

struct Options {
  std::vector<std::string> parts = {"limits", "convolutions", "inference", "training"};
  std::vector<std::string> models = {"yolov6n_opt", "yolov6s_opt"};
  int64_t batch = 32, size = 640;
  std::string json;
};

Json measure(const Options& o) {
  kernels::start_cuda();
  const auto wanted = [&](const char* part) {
    return std::ranges::find(o.parts, part) != o.parts.end();
  };
  Json j = {{"device", bench::describe_device()}};
  if (wanted("limits")) j["limits"] = bench::measure_limits();
  for (const std::string& model : o.models) {
    Json& m = j["models"][model];
    m = {{"image_size", o.size}};
#if defined(SEXTANT_CUDNN)
    if (wanted("convolutions")) {
      m["convolutions_batch"] = o.batch;
      m["convolutions"] = bench::measure_convolutions(model, o.batch, o.size);
    }
#else
    if (wanted("convolutions"))
      fmt::print(stderr, "no convolutions: this build has no cuDNN to compare with\n");
#endif
    if (wanted("inference")) m["inference"] = bench::measure_inference(model, o.size);
    if (wanted("training")) m["training"] = bench::measure_training(model, o.batch, o.size);
  }
  return j;
}

}  // namespace

int main(int argc, char** argv) {
  apps::Program app("Benchmarks on a CUDA device: JSON on stdout", "sextant_bench_gpu");
  Options o;
  app.add_option("--parts", o.parts, "limits, convolutions, inference, training (default: all)")
      .one_of({"limits", "convolutions", "inference", "training"});
  app.add_option("--models", o.models, "Presets of models").show_default();
  app.add_option("--batch", o.batch, "Images per batch of the convolutions and of training")
      .range(1, 1024)
      .show_default();
  app.add_option("--img", o.size, "Image size").show_default();
  app.add_option("--json", o.json, "Write the figures to this file instead");
  app.callback([&] {
    const std::string text = measure(o).dump(1) + "\n";
    if (o.json.empty())
      fmt::print("{}", text);
    else
      write_atomically(o.json, text);
  });
  return app.run(argc, argv);
}
