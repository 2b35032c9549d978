// SPDX-License-Identifier: Apache-2.0
#include "quant/layers/partial.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "apps/cli/common_options.h"
#include "apps/commands/calibration_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "apps/quantizing/partial_measures.h"
#include "core/config.h"
#include "core/file.h"
#include "data/drawing/plot.h"
#include "deploy/detect/evaluation.h"
#include "deploy/engine/selftest.h"
#include "quant/layers/float_layers.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string model, data, out, split = "val", json, plot;
  std::vector<std::string> names;
  double max_drop = -1, min_speedup = 0;
  ImageSize image_size;
  int runs = 20, trials = 6, points = 3;
  int64_t images = 16;
  Calibration calibration;
};

// Everything that is reported about the result.
struct Report {
  const deploy::Graph& graph;
  const quant::Sensitivity& sensitivity;
  const quant::LayerTimes& times;
  const quant::PartialResult& result;
};

const quant::PartialPoint& chosen(const Report& r) { return r.result.curve[r.result.chosen]; }

void print_curve(const Report& r) {
  fmt::print("float layers  speed-up (predicted)  mAP50-95     drop\n");
  for (const auto& p : r.result.curve)
    fmt::print("{:>12}  {:>8} {:>11}  {:>8}  {:>7}{}\n", p.layers.size(),
               p.speedup ? fmt::format("{:.2f}", *p.speedup) : "-",
               fmt::format("({:.2f})", p.predicted_speedup),
               p.accuracy ? fmt::format("{:.4f}", *p.accuracy) : "-",
               p.accuracy ? fmt::format("{:.4f}", r.result.float_accuracy - *p.accuracy) : "-",
               &p == &chosen(r) ? "  chosen" : "");
}

void print_layers(const Report& r) {
  size_t width = 5;
  for (const int l : chosen(r).layers)
    width = std::max(width, r.graph.nodes[static_cast<size_t>(l)].name.size());
  if (!chosen(r).layers.empty())
    fmt::print("{:<{}}  alone, dB  fp32 ms  int8 ms\n", "in float", width);
  for (const auto& s : r.sensitivity.layers) {
    const size_t n = static_cast<size_t>(s.node);
    if (std::ranges::find(chosen(r).layers, s.node) == chosen(r).layers.end()) continue;
    fmt::print("{:<{}}  {:>9.2f}  {:>7.3f}  {:>7.3f}\n", s.name, width, s.error.sqnr(),
               r.times.fp32[n], r.times.int8[n]);
  }
}

Json point_json(const deploy::Graph& graph, const quant::PartialPoint& p) {
  Json j = {{"float_layers", Json::array()},
            {"predicted_noise", p.noise},
            {"predicted_ms", p.predicted_ms},
            {"predicted_speedup", p.predicted_speedup}};
  for (const int l : p.layers)
    j["float_layers"].push_back(graph.nodes[static_cast<size_t>(l)].name);
  if (p.speedup) j["speedup"] = *p.speedup;
  if (p.accuracy) j["map50_95"] = *p.accuracy;
  return j;
}

Json to_json(const Report& r) {
  Json j = {{"fp32", {{"map50_95", r.result.float_accuracy}, {"ms", r.result.float_ms}}},
            {"chosen", point_json(r.graph, chosen(r))},
            {"evaluations", r.result.evaluations},
            {"conversion_ns_per_value",
             {{"to_float", r.times.to_float * 1e6}, {"to_int8", r.times.to_int8 * 1e6}}},
            {"curve", Json::array()},
            {"layers", Json::array()}};
  for (const auto& p : r.result.curve) j["curve"].push_back(point_json(r.graph, p));
  for (const auto& s : r.sensitivity.layers) {
    const size_t n = static_cast<size_t>(s.node);
    const auto& in_float = chosen(r).layers;
    j["layers"].push_back({{"name", s.name},
                           {"sqnr", s.error.sqnr()},
                           {"fp32_ms", r.times.fp32[n]},
                           {"int8_ms", r.times.int8[n]},
                           {"float", std::ranges::find(in_float, s.node) != in_float.end()}});
  }
  return j;
}

data::PlotSpec plot_of(const Report& r) {
  data::PlotSpec spec;
  spec.title = "Accuracy and speed with layers in float";
  spec.x_label = "times as fast as fp32";
  spec.y_label = "mAP50-95";
  data::Series points{.name = "measured", .x = {}, .y = {}, .line = false, .dots = true};
  data::Series best{.name = "Pareto front", .x = {}, .y = {}};
  std::vector<std::pair<double, double>> sorted;
  for (const auto& p : r.result.curve)
    if (p.accuracy && p.speedup) sorted.emplace_back(*p.speedup, *p.accuracy);
  std::ranges::sort(sorted, std::greater{});
  for (const auto& [speed, map] : sorted) {
    points.x.push_back(speed);
    points.y.push_back(map);
    if (!best.y.empty() && map <= best.y.back()) continue;
    best.x.push_back(speed);
    best.y.push_back(map);
  }
  spec.series = {points, best};
  spec.marks = {{*chosen(r).speedup, *chosen(r).accuracy,
                 fmt::format("chosen: {} of {} layers in float", chosen(r).layers.size(),
                             r.sensitivity.layers.size())}};
  return spec;
}

void run(const Options& o) {
  check(o.max_drop >= 0 || o.min_speedup > 0 || !o.names.empty(),
        "partial: give --max-drop, --min-speedup or --float");
  const deploy::Graph model = load_model_graph(o.model);
  const int size = o.image_size.choose_side(model);
  const deploy::Graph graph = with_ranges(model, o.data, size, o.calibration, o.names);
  quant::PartialConfig config;
  if (o.max_drop >= 0) config.max_drop = o.max_drop / 100;
  if (o.min_speedup > 0) config.min_speedup = o.min_speedup;
  config.always = quant::find_layers(graph, o.names);
  config.trials = o.trials;
  config.extra_points = o.points;
  const data::Dataset dataset = deploy::open_dataset_for(graph, o.data, o.split);
  const Tensor images = spread_batch(dataset, o.images, size, graph);
  const quant::Sensitivity sensitivity = quant::rank_layers(graph, images, {});
  const quant::PartialMeasures measures = partial_measures(graph, dataset, size, o.runs);
  const quant::PartialResult result =
      quant::choose_float_layers(graph, sensitivity, measures, config);
  deploy::save_with_proof(o.out, result.graph);

  const Report report{graph, sensitivity, measures.times, result};
  print_curve(report);
  print_layers(report);
  const quant::PartialPoint& p = chosen(report);
  fmt::print(
      "{}: {} of {} layers in float, mAP50-95 {:.4f} (fp32 {:.4f}), {:.2f} times as fast as "
      "fp32 ({:.2f} predicted); {} evaluations\n",
      o.out, p.layers.size(), sensitivity.layers.size(), *p.accuracy, result.float_accuracy,
      *p.speedup, p.predicted_speedup, result.evaluations);
  if (!o.json.empty()) {
    Json j = to_json(report);
    j["model"] = o.model;
    j["split"] = o.split;
    j["image_size"] = size;
    write_atomically(o.json, json_text(j, 2) + "\n");
  }
  if (!o.plot.empty()) data::save_line_plot(o.plot, plot_of(report));
}

}  // namespace

void add_partial_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command(
      "partial", "Choose the layers to keep in float for a target of accuracy or speed");
  add_model_argument(c, o->model);
  add_data_option(c, o->data);
  c.add_option("--out FILE", o->out, "deploy file to write").writes().required();
  const Option drop = c.add_option("--max-drop X", o->max_drop,
                                   "choose the fastest set of float layers that loses at most X "
                                   "points of mAP50-95, as in 0.3")
                          .range(0.0, 100.0);
  c.add_option("--min-speedup X", o->min_speedup,
               "choose the most accurate set that is at least X times as fast as fp32, as in 1.5")
      .range(1.0, 1000.0)
      .excludes(drop);
  c.add_option("--float NAMES", o->names,
               "layers to keep in float in any case: names, or patterns with * and ?");
  c.add_option("--split NAME", o->split, "split to evaluate on").show_default();
  c.add_option("--images N", o->images, "images to measure the sensitivity on")
      .range(1, 100000)
      .show_default();
  c.add_option("--trials N", o->trials, "evaluations that try to move chosen layers back to int8")
      .range(0, 1000)
      .show_default();
  c.add_option("--points N", o->points, "further points of the curve to measure")
      .range(0, 1000)
      .show_default();
  c.add_option("--runs N", o->runs, "timed runs").range(1, 100000).show_default();
  add_image_size_option(c, o->image_size);
  c.add_option("--json FILE", o->json, "write the choice and the curve to this file").writes();
  c.add_option("--plot FILE", o->plot, "draw the curve into this PNG").writes();
  add_calibration_options(c, o->calibration);
  c.examples(
      {"sextant partial best.safetensors --data /data/bccd --out partial.safetensors "
       "--max-drop 0.3",
       "sextant partial int8.safetensors --data /data/bccd --out partial.safetensors "
       "--float 'detect.*'"});
  c.callback([o] { run(*o); });
}

}  // namespace sextant::apps
