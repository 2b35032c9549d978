#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "apps/cli/command_line.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "core/file.h"
#include "core/median.h"
#include "core/parallel.h"
#include "deploy/detect/choices.h"
#include "deploy/engine/engine.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string model, json, device = "auto";
  std::vector<std::string> precisions;
  int image_size = 0;
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

// Precisions take turns, run by run, so that a change in the machine's speed meets them alike.
void run(const Options& o) {
  const deploy::Graph graph = load_model_graph(o.model);
  const int size = deploy::choose_image_size(o.image_size, graph, "--img");
  std::vector<std::string> names = o.precisions;
  if (names.empty()) {
    names = {"fp32"};
    if (graph.quantized()) names.push_back("int8");
  }
  std::vector<deploy::Engine> engines;
  std::vector<Device> devices;
  std::vector<double> build_ms;
  for (const auto& n : names) {
    const auto precision = from_name<deploy::Precision>(n);
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
        names[e], ms, low, row["images_per_second"].get<double>(), conv_ms,
        row["conv_gops"].get<double>(), row["arena_mb"].get<double>(),
        row["weights_mb"].get<double>(), build_ms[e]);
    if (o.layers) {
      print_layers(steps, runs, layers);
      row["layers"] = layers;
    }
    j["results"][names[e]] = row;
  }
  if (engines.size() == 2) {
    const double ratio = median(times[0]) / median(times[1]);
    fmt::print("{} is {:.2f} times as fast as {}\n", names[1], ratio, names[0]);
    j["speedup"] = ratio;
  }
  if (!o.json.empty()) write_atomically(o.json, json_text(j, 2) + "\n");
}

}  // namespace

void add_bench_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command("bench", "Time the engine, precisions side by side");
  c.add_option("MODEL", o->model, "Checkpoint or deploy file").reads().required();
  c.add_option("--img", o->image_size, "Image size (default: as trained)").range(1, 8192);
  c.add_option("--batch", o->batch, "Images per run").range(1, 1024).show_default();
  c.add_option("--precision", o->precisions,
               "fp32, fp16, int8, integer, several (default: fp32 and, if quantized, int8)")
      .one_of({"fp32", "fp16", "int8", "integer"});
  add_device_option(c, o->device);
  c.add_option("--runs", o->runs, "Timed runs").range(1, 100000).show_default();
  c.add_flag("--layers", o->layers, "Time of each layer too");
  c.add_option("--json", o->json, "Write the figures to this file").writes();
  c.callback([o] { run(*o); });
}

}  // namespace sextant::apps
