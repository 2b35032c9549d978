// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "apps/model_files/preset_graph.h"
#include "core/file.h"
#include "core/median.h"
#include "core/parallel.h"
#include "core/progress.h"
#include "data/image/image.h"
#include "deploy/engine/engine.h"
#include "deploy/graph/info.h"
#include "models/yolov6_config.h"

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
  std::vector<std::string> presets;
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

// An engine in one of the precisions, and what was measured on it.
struct Candidate {
  deploy::Precision precision;
  Device device;
  deploy::Engine engine;
  double build_ms;
  std::vector<double> times{};  // of a run, in milliseconds
};

std::vector<Candidate> build_engines(const deploy::Graph& graph, int size, const Options& o) {
  std::vector<deploy::Precision> precisions = o.precisions;
  if (precisions.empty()) {
    precisions = {deploy::Precision::kFloat32};
    if (graph.quantized()) precisions.push_back(deploy::Precision::kInt8);
  }
  std::vector<Candidate> candidates;
  for (const deploy::Precision precision : precisions) {
    const Device device = deploy::choose_device(o.device, precision, false);
    const auto start = std::chrono::steady_clock::now();
    deploy::Engine engine(graph, {.batch = o.batch,
                                  .height = size,
                                  .width = graph.width_for(size),
                                  .precision = precision,
                                  .device = device});
    candidates.push_back({precision, device, std::move(engine), milliseconds_since(start)});
  }
  return candidates;
}

// Interleaves the runs, so that a change in the machine's speed affects all candidates alike.
void time_runs(std::vector<Candidate>& candidates, const Tensor& images, int runs) {
  constexpr int kWarmUp = 2;
  for (int r = -kWarmUp; r < runs; ++r)
    for (Candidate& c : candidates) {
      const auto start = std::chrono::steady_clock::now();
      c.engine.run(images);
      const double ms = milliseconds_since(start);
      if (r >= 0) c.times.push_back(ms);
    }
}

Json describe(Candidate& c, const Tensor& images, const Options& o) {
  const double ms = median(c.times), low = *std::ranges::min_element(c.times);
  const deploy::EngineStats& stats = c.engine.stats();
  const int runs = std::max(3, o.runs / 4);
  const auto steps = c.engine.profile(images, runs);
  double conv_ms = 0, conv_flops = 0;
  for (const auto& s : steps)
    if (s.flops > 0) {
      conv_ms += s.milliseconds / runs;
      conv_flops += s.flops;
    }
  Json row = {{"ms_median", ms},
              {"device", deploy::device_title(c.device)},
              {"ms_min", low},
              {"images_per_second", 1e3 * static_cast<double>(o.batch) / ms},
              {"build_ms", c.build_ms},
              {"arena_mb", static_cast<double>(stats.arena_bytes) / 1e6},
              {"weights_mb", static_cast<double>(stats.weight_bytes) / 1e6},
              {"conv_ms", conv_ms},
              {"conv_gops", conv_flops / conv_ms * 1e-6}};
  fmt::print(
      "{}: median {:.2f} ms, min {:.2f} ms, {:.1f} images/s; convolutions {:.2f} ms at "
      "{:.0f} GOP/s; activations {:.1f} MB, weights {:.1f} MB; built in {:.0f} ms\n",
      name_of(c.precision), ms, low, row["images_per_second"].get<double>(), conv_ms,
      row["conv_gops"].get<double>(), row["arena_mb"].get<double>(),
      row["weights_mb"].get<double>(), c.build_ms);
  if (o.layers) {
    Json layers = Json::array();
    print_layers(steps, runs, layers);
    row["layers"] = std::move(layers);
  }
  return row;
}

void run(const Options& o) {
  deploy::Graph graph = load_model_graph(o.model);
  const int size = o.image_size.choose(graph);
  const int64_t width = graph.width_for(size);
  std::vector<Candidate> candidates = build_engines(graph, size, o);
  const Tensor images(Shape{o.batch, size, width, 3}, DType::kU8);
  std::fill_n(images.data<uint8_t>(), images.numel(), data::kPadValue);
  time_runs(candidates, images, o.runs);

  Json j = {{"model", o.model}, {"image_size", size},       {"batch", o.batch},
            {"runs", o.runs},   {"threads", num_threads()}, {"results", Json::object()}};
  if (width != size) j["image_width"] = width;
  const std::string pixels =
      width == size ? fmt::to_string(size) : fmt::format("{}x{}", size, width);
  fmt::print("{} px, batch {}, {} threads, {} runs\n", pixels, o.batch, num_threads(), o.runs);
  for (Candidate& c : candidates)
    j["results"][std::string(name_of(c.precision))] = describe(c, images, o);
  if (candidates.size() == 2) {
    const double ratio = median(candidates[0].times) / median(candidates[1].times);
    fmt::print("{} is {:.2f} times as fast as {}\n", name_of(candidates[1].precision), ratio,
               name_of(candidates[0].precision));
    j["speedup"] = ratio;
  }
  if (!o.json.empty()) write_atomically(o.json, json_text(j, 2) + "\n");
}

// A row for each preset with random weights: what a model costs before it is trained.
void run_presets(const Options& o) {
  check(o.model.empty(), "--presets: times models of its own, '{}' is one too many", o.model);
  check(o.precisions.empty() && !o.layers, "--presets: takes no --precision and no --layers");
  std::vector<std::string> names = o.presets;
  if (names == std::vector<std::string>{"all"}) names = yolov6_preset_names();
  for (const std::string& name : names) yolov6_preset(name);
  Json rows = Json::array();
  fmt::print("batch {}, {} threads, {} runs, random weights\n", o.batch, num_threads(), o.runs);
  fmt::print("{:<20} {:>9} {:>10} {:>7}  {:>16}  {:>16}\n", "model", "px", "parameters", "GFLOPs",
             "fp32 ms, MB", "int8 ms, MB");
  Progress progress("presets", std::ssize(names));
  for (const std::string& name : names) {
    progress.update(static_cast<int64_t>(rows.size()), name);
    deploy::Graph graph = quantized_preset_graph(name);
    graph.image_size = 640;
    const int size = o.image_size.choose(graph);
    const int64_t width = graph.width_for(size);
    const deploy::GraphSummary summary = deploy::summarize(graph, size, width);
    std::vector<Candidate> candidates = build_engines(graph, size, o);
    const Tensor images(Shape{o.batch, size, width, 3}, DType::kU8);
    std::fill_n(images.data<uint8_t>(), images.numel(), data::kPadValue);
    time_runs(candidates, images, o.runs);
    Json row = {{"preset", name},
                {"height", size},
                {"width", width},
                {"parameters", summary.parameters},
                {"gflops", summary.flops * 1e-9}};
    std::string times;
    for (const Candidate& c : candidates) {
      const double ms = median(c.times);
      const double weights = static_cast<double>(c.engine.stats().weight_bytes) / 1e6;
      row[std::string(name_of(c.precision))] = {{"ms_median", ms}, {"weights_mb", weights}};
      times += fmt::format("  {:>8.2f}, {:>6.1f}", ms, weights);
    }
    progress.finish();
    fmt::print("{:<20} {:>9} {:>8.2f} M {:>7.2f}{}\n", name, fmt::format("{}x{}", size, width),
               static_cast<double>(summary.parameters) / 1e6, summary.flops * 1e-9, times);
    std::fflush(stdout);
    rows.push_back(std::move(row));
  }
  const Json j = {
      {"batch", o.batch}, {"runs", o.runs}, {"threads", num_threads()}, {"presets", rows}};
  if (!o.json.empty()) write_atomically(o.json, json_text(j, 2) + "\n");
}

}  // namespace

void add_bench_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command("bench", "Time the engine in several precisions, runs interleaved");
  c.add_option("MODEL", o->model, "checkpoint or deploy file").reads();
  add_image_size_option(c, o->image_size);
  c.add_option("--batch N", o->batch, "images per run").range(1, 1024).show_default();
  c.add_option("--precision NAMES", o->precisions, "one or more, separated by commas")
      .default_text("fp32 and, for a quantized model, int8");
  add_device_option(c, o->device);
  c.add_option("--runs N", o->runs, "timed runs").range(1, 100000).show_default();
  c.add_flag("--layers", o->layers, "also time each layer");
  c.add_option("--json FILE", o->json, "write the results to this file").writes();
  c.add_option("--presets NAMES", o->presets,
               "in place of a MODEL: these kinds of model, separated by commas, or all, with "
               "random weights: "
               "to choose one before training")
      .delimiter(',');
  c.examples({"sextant bench --presets yolov6n_opt,yolov6s_opt --img 640",
              "sextant bench int8.safetensors --precision fp32,int8 --layers",
              "sextant bench model.safetensors --img 640 --batch 8"});
  c.callback([o] {
    if (!o->presets.empty()) return run_presets(*o);
    check(!o->model.empty(), "bench: needs a MODEL, or --presets");
    run(*o);
  });
}

}  // namespace sextant::apps
