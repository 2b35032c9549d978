// SPDX-License-Identifier: Apache-2.0
#include "quant/layers/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "apps/cli/common_options.h"
#include "apps/commands/calibration_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "core/file.h"
#include "core/progress.h"
#include "data/drawing/plot.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {
namespace {

// The place where a layer's error is measured.
enum class MeasuredAt { kOutput, kLayer };
constexpr auto enum_names(MeasuredAt) {
  return make_enum_names<MeasuredAt>(
      "place", {{MeasuredAt::kOutput, "output"}, {MeasuredAt::kLayer, "layer"}});
}

struct Options {
  std::string model, data, split = "val", json, plot;
  quant::Metric metric = quant::Metric::kSqnr;
  MeasuredAt at = MeasuredAt::kOutput;
  ImageSize image_size;
  int64_t images = 16;
  bool all_but = false;
  Calibration calibration;
};

// The quantity shown by the bars; larger is worse.
const char* harm_label(const quant::SensitivityConfig& c) {
  switch (c.metric) {
    case quant::Metric::kSqnr:
      return c.all_but ? "noise / signal removed with the layer in float"
                       : "noise / signal with the layer in int8";
    case quant::Metric::kMse:
      return c.all_but ? "mse removed with the layer in float" : "mse with the layer in int8";
    case quant::Metric::kCosine:
      return c.all_but ? "1 - cosine removed with the layer in float"
                       : "1 - cosine with the layer in int8";
    case quant::Metric::kMap:
      return c.all_but ? "mAP50-95 gained with the layer in float"
                       : "mAP50-95 lost with the layer in int8";
  }
  return "";
}

void print_table(const quant::Sensitivity& s) {
  const bool map = s.config.metric == quant::Metric::kMap;
  size_t width = 5;
  for (const auto& l : s.layers) width = std::max(width, l.name.size());
  fmt::print("{:<{}}  {}\n", "layer", width,
             map ? "mAP50-95      drop" : "SQNR dB       mse     1-cosine      harm");
  const auto row = [&](const std::string& name, const quant::OutputError& e, double map_value,
                       double harm) {
    if (map)
      fmt::print("{:<{}}  {:>8.4f}  {:>8.4f}\n", name, width, map_value, harm);
    else
      fmt::print("{:<{}}  {:>7.2f}  {:>9.3e}  {:>9.3e}  {:>9.3e}\n", name, width, e.sqnr(), e.mse,
                 1 - e.cosine, harm);
  };
  for (const auto& l : s.layers) row(l.name, l.error, l.accuracy, l.harm);
  if (map) {
    fmt::print("all in fp32: {:.4f}; all in int8: {:.4f}\n", s.float_accuracy, s.int8_accuracy);
  } else if (!s.config.own_output) {
    double sum = 0;
    for (const auto& l : s.layers) sum += l.error.noise;
    fmt::print("all in int8: SQNR {:.2f} dB", s.all_int8.sqnr());
    if (!s.config.all_but)
      fmt::print("; the layers' noises add up to {:.2f} dB", quant::OutputError{sum, 0, 1}.sqnr());
    fmt::print("\n");
  }
}

Json error_json(const quant::OutputError& e) {
  return {{"sqnr", e.sqnr()}, {"mse", e.mse}, {"cosine", e.cosine}};
}

Json to_json(const quant::Sensitivity& s) {
  const bool map = s.config.metric == quant::Metric::kMap;
  Json j = {{"metric", name_of(s.config.metric)},
            {"all_but", s.config.all_but},
            {"at", name_of(s.config.own_output ? MeasuredAt::kLayer : MeasuredAt::kOutput)},
            {"images", s.images},
            {"layers", Json::array()}};
  if (map) {
    j["fp32"] = {{"map50_95", s.float_accuracy}};
    j["int8"] = {{"map50_95", s.int8_accuracy}};
  } else if (!s.config.own_output) {
    j["int8"] = error_json(s.all_int8);
  }
  for (const auto& l : s.layers) {
    Json layer = map ? Json{{"map50_95", l.accuracy}} : error_json(l.error);
    layer["name"] = l.name;
    layer["harm"] = l.harm;
    j["layers"].push_back(std::move(layer));
  }
  return j;
}

// The correlation of two rankings of the same layers.
double agreement(const quant::Sensitivity& a, const quant::Sensitivity& b) {
  std::vector<double> x, y;
  for (const auto& l : a.layers) {
    x.push_back(l.harm);
    y.push_back(std::ranges::find(b.layers, l.node, &quant::LayerScore::node)->harm);
  }
  return quant::spearman(x, y);
}

data::RankSpec bars_of(const quant::Sensitivity& s) {
  data::RankSpec spec;
  spec.title = s.config.all_but ? "Sensitivity: all in int8 but one layer"
                                : "Sensitivity: one layer in int8";
  // As in the table.
  const bool sqnr = s.config.metric == quant::Metric::kSqnr;
  spec.x_label = !sqnr              ? harm_label(s.config)
                 : s.config.all_but ? "dB of SQNR gained with the layer in float"
                                    : "SQNR with the layer in int8, dB; the least is the worst";
  if (s.config.own_output) spec.x_label += ", at its own output";
  for (const auto& l : s.layers) {
    spec.names.push_back(l.name);
    spec.values.push_back(!sqnr              ? l.harm
                          : s.config.all_but ? l.error.sqnr() - s.all_int8.sqnr()
                                             : l.error.sqnr());
  }
  return spec;
}

void run(const Options& o) {
  quant::SensitivityConfig config;
  config.metric = o.metric;
  config.all_but = o.all_but;
  config.own_output = o.at == MeasuredAt::kLayer;
  const deploy::Graph model = load_model_graph(o.model);
  const int size = o.image_size.choose_side(model);
  const deploy::Graph graph = with_ranges(model, o.data, size, o.calibration);
  data::Dataset dataset = deploy::open_dataset_for(graph, o.data, o.split);
  const auto start = std::chrono::steady_clock::now();
  const Tensor images = spread_batch(dataset, o.images, size, graph);
  quant::Accuracy accuracy;
  if (config.metric == quant::Metric::kMap)
    accuracy = [&](const deploy::Graph& g) {
      return deploy::evaluate(g, dataset, size, deploy::Precision::kInt8).metrics.ap;
    };
  quant::Sensitivity s = quant::rank_layers(graph, images, config, accuracy);
  if (accuracy) s.images = dataset.size();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  print_table(s);
  fmt::print("{} layers, {} images of {} px, in {}\n", s.layers.size(), s.images, size,
             format_duration(seconds));
  std::optional<double> correlation;
  if (accuracy) {
    config.metric = quant::Metric::kSqnr;
    correlation = agreement(s, quant::rank_layers(graph, images, config));
    fmt::print(
        "the ranking by SQNR on {} images agrees with it to a Spearman correlation of {:.2f}\n",
        images.dim(0), *correlation);
  }
  if (!o.json.empty()) {
    Json j = to_json(s);
    j["model"] = o.model;
    j["split"] = o.split;
    j["image_size"] = size;
    j["seconds"] = seconds;
    if (correlation) j["spearman_with_sqnr"] = *correlation;
    write_atomically(o.json, json_text(j, 2) + "\n");
  }
  if (!o.plot.empty()) data::save_rank_plot(o.plot, bars_of(s));
}

}  // namespace

void add_sensitivity_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c =
      app.add_command("sensitivity", "Rank the layers by what quantizing each of them costs");
  add_model_argument(c, o->model);
  add_data_option(c, o->data);
  c.add_option("--split NAME", o->split, "split to measure on").show_default();
  c.add_option("--images N", o->images,
               "images, spread over the split; --metric map takes the whole split")
      .range(1, 100000)
      .show_default();
  c.add_option("--metric NAME", o->metric, "what to rank by");
  c.add_option("--at PLACE", o->at,
               "where to compare with float: at the network's output or, cheaper, at each layer's");
  c.add_flag("--all-but", o->all_but, "run all layers but one in int8, instead of one alone");
  add_image_size_option(c, o->image_size);
  c.add_option("--json FILE", o->json, "write the ranking to this file").writes();
  c.add_option("--plot FILE", o->plot, "draw the ranking as bars into this PNG").writes();
  add_calibration_options(c, o->calibration);
  c.examples({"sextant sensitivity best.safetensors --data /data/bccd --plot ranking.png",
              "sextant sensitivity int8.safetensors --data /data/bccd --metric map"});
  c.callback([o] { run(*o); });
}

}  // namespace sextant::apps
