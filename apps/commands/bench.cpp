#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "core/file.h"
#include "core/median.h"
#include "core/parallel.h"
#include "deploy/engine/engine.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string model, json;
  deploy::DeviceChoice device = deploy::DeviceChoice::kAuto;
  std::vector<deploy::Precision> precisions;
  ImageSize image_size;
  int64_t batch = 1;
  int runs = 20;
  bool layers = false;
};

void print_layers(const std::vector<deploy::StepTime>& steps, int runs, Json& out) {
  for (const auto& s : steps) {
    const double ms = s.milliseconds / runs;
    const double gflops = s.flops / ms * 1e-6;
    fmt::print("  {:<44} {:<10} {:>8.3f} ms {:>8.1f} GOP/s  {}\n", s.name, s.kind, ms, gflops,
               s.implementation);
    out.push_back({{"name", s.name},
                   {"kind", s.kind},
                   {"ms", ms},
                   {"gops", gflops},
                   {"implementation", s.implementation}});
  }
}

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

// Interleaves the runs of the precisions, so that a change in the machine's speed affects them
// alike.
void run(const Options& o) {
  const deploy::Graph graph = load_model_graph(o.model);
  const int size = o.image_size.choose(graph);
  std::vector<deploy::Precision> precisions = o.precisions;
  if (precisions.empty()) {
    precisions = {deploy::Precision::kFloat32};
    if (graph.quantized()) precisions.push_back(deploy::Precision::kInt8);
  }
  std::vector<deploy::Engine> engines;
  std::vector<Device> devices;
  std::vector<double> build_ms;
  for (const deploy::Precision precision : precisions) {
    devices.push_back(deploy::choose_device(o.device, precision, false));
    const auto start = std::chrono::steady_clock::now();
    engines.emplace_back(graph, deploy::EngineConfig{.batch = o.batch,
                                                     .height = size,
                                                     .width = size,
                                                     .precision = precision,
                                                     .device = devices.back()});
    build_ms.push_back(milliseconds_since(start));
  }
  const Tensor images(Shape{o.batch, size, size, 3}, DType::kU8);
  std::fill_n(images.data<uint8_t>(), images.numel(), uint8_t{114});
  std::vector<std::vector<double>> times(engines.size());
  for (int r = -2; r < o.runs; ++r)
    for (size_t e = 0; e < engines.size(); ++e) {
      const auto start = std::chrono::steady_clock::now();
      engines[e].run(images);
      const double ms = milliseconds_since(start);
      if (r >= 0) times[e].push_back(ms);
    }
  Json j = {{"model", o.model}, {"image_size", size},       {"batch", o.batch},
            {"runs", o.runs},   {"threads", num_threads()}, {"results", Json::object()}};
  fmt::print("{} px, batch {}, {} threads, {} runs\n", size, o.batch, num_threads(), o.runs);
  for (size_t e = 0; e < engines.size(); ++e) {
    const std::string name(name_of(precisions[e]));
    const double ms = median(times[e]), low = *std::ranges::min_element(times[e]);
    Json row = {{"ms_median", ms},
                {"device", deploy::device_title(devices[e])},
                {"ms_min", low},
                {"images_per_second", 1e3 * static_cast<double>(o.batch) / ms},
                {"build_ms", build_ms[e]},
                {"arena_mb", static_cast<double>(engines[e].stats().arena_bytes) / 1e6},
                {"weights_mb", static_cast<double>(engines[e].stats().weight_bytes) / 1e6}};
    double conv_ms = 0, conv_flops = 0;
    Json layers = Json::array();
    const int runs = std::max(3, o.runs / 4);
    const auto steps = engines[e].profile(images, runs);
    for (const auto& s : steps)
      if (s.flops > 0) {
        conv_ms += s.milliseconds / runs;
        conv_flops += s.flops;
      }
    row["conv_ms"] = conv_ms;
    row["conv_gops"] = conv_flops / conv_ms * 1e-6;
    fmt::print(
        "{}: median {:.2f} ms, min {:.2f} ms, {:.1f} images/s; convolutions {:.2f} ms at "
        "{:.0f} GOP/s; activations {:.1f} MB, weights {:.1f} MB; built in {:.0f} ms\n",
        name, ms, low, row["images_per_second"].get<double>(), conv_ms,
        row["conv_gops"].get<double>(), row["arena_mb"].get<double>(),
        row["weights_mb"].get<double>(), build_ms[e]);
    if (o.layers) {
      print_layers(steps, runs, layers);
      row["layers"] = layers;
    }
    j["results"][name] = row;
  }
  if (engines.size() == 2) {
    const double ratio = median(times[0]) / median(times[1]);
    fmt::print("{} is {:.2f} times as fast as {}\n", name_of(precisions[1]), ratio,
               name_of(precisions[0]));
    j["speedup"] = ratio;
  }
  if (!o.json.empty()) write_atomically(o.json, json_text(j, 2) + "\n");
}

}  // namespace

void add_bench_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command("bench", "Time the engine in several precisions, runs interleaved");
  add_model_argument(c, o->model);
  add_image_size_option(c, o->image_size);
  c.add_option("--batch N", o->batch, "images per run").range(1, 1024).show_default();
  c.add_option("--precision NAMES", o->precisions, "one or more, separated by commas")
      .default_text("fp32 and, for a quantized model, int8");
  add_device_option(c, o->device);
  c.add_option("--runs N", o->runs, "timed runs").range(1, 100000).show_default();
  c.add_flag("--layers", o->layers, "also time each layer");
  c.add_option("--json FILE", o->json, "write the results to this file").writes();
  c.examples({"sextant bench int8.safetensors --precision fp32,int8 --layers",
              "sextant bench model.safetensors --img 640 --batch 8"});
  c.callback([o] { run(*o); });
}

}  // namespace sextant::apps
