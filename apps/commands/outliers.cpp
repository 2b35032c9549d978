// SPDX-License-Identifier: Apache-2.0
#include "quant/layers/outliers.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "apps/quantizing/calibrate.h"
#include "core/file.h"
#include "core/median.h"
#include "data/dataset/dataset.h"
#include "data/drawing/plot.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {
namespace {

struct Options {
  std::vector<std::string> models;
  std::string data, split = "train", json, plot;
  ImageSize image_size;
  int64_t images = 16;
};

struct Model {
  std::string name;
  std::vector<quant::LayerOutliers> layers;
};

Model measure(const Options& o, const std::string& argument) {
  const size_t eq = argument.find('=');
  check(eq != std::string::npos && eq > 0, "{}: must be NAME=MODEL", argument);
  const deploy::Graph graph = load_model_graph(argument.substr(eq + 1));
  const int size = o.image_size.choose_side(graph);
  const data::Dataset dataset = deploy::open_dataset_for(graph, o.data, o.split);
  return {argument.substr(0, eq),
          quant::measure_outliers(graph, spread_images(dataset, o.images, size, graph))};
}

template <class F>
std::vector<double> column(const Model& m, const F& f) {
  std::vector<double> out;
  for (const auto& l : m.layers) out.push_back(f(l));
  return out;
}

double weight_ratio(const quant::LayerOutliers& l) { return l.weight.ratio(); }
double activation_ratio(const quant::LayerOutliers& l) { return l.activation.ratio(); }
double channel_ratio(const quant::LayerOutliers& l) { return l.channel_ratio; }

void print_table(const Model& m) {
  fmt::print("{}\n  {:<44}{:>10}{:>9}{:>11}{:>12}{:>9}\n", m.name, "layer", "max |w|", "/ rms",
             "channels", "max |x|", "/ rms");
  for (const auto& l : m.layers)
    fmt::print("  {:<44}{:>10.4g}{:>9.1f}{:>11.1f}{:>12.4g}{:>9.1f}\n", l.name, l.weight.largest,
               l.weight.ratio(), l.channel_ratio, l.activation.largest, l.activation.ratio());
}

void print_summary(const std::vector<Model>& models) {
  fmt::print("{:<16}{:>22}{:>26}{:>22}\n", "model", "weights max / rms", "channels' ranges apart",
             "outputs max / rms");
  for (const Model& m : models) {
    std::string line = fmt::format("{:<16}", m.name);
    for (const auto& [values, width] :
         {std::pair{column(m, weight_ratio), 22}, std::pair{column(m, channel_ratio), 26},
          std::pair{column(m, activation_ratio), 22}})
      line += fmt::format(
          "{:>{}}",
          fmt::format("{:.1f} (to {:.1f})", median(values), *std::ranges::max_element(values)),
          width);
    fmt::print("{}\n", line);
  }
}

Json to_json(const Model& m) {
  Json layers = Json::array();
  for (const auto& l : m.layers)
    layers.push_back({{"name", l.name},
                      {"weight_max", l.weight.largest},
                      {"weight_rms", l.weight.rms},
                      {"channel_ratio", l.channel_ratio},
                      {"output_max", l.activation.largest},
                      {"output_rms", l.activation.rms}});
  return {{"name", m.name}, {"layers", layers}};
}

void run(const Options& o) {
  std::vector<Model> models;
  for (const auto& argument : o.models) models.push_back(measure(o, argument));
  for (const Model& m : models) print_table(m);
  print_summary(models);
  Json j = Json::array();
  data::PlotSpec plot;
  plot.title = "Range of each layer: largest value over root mean square";
  plot.x_label = "layer, from the image to the heads";
  plot.y_label = "max / rms";
  plot.width = 1200;
  plot.y_min = 0;
  plot.whole_x = true;
  for (const Model& m : models) {
    j.push_back(to_json(m));
    plot.series.push_back({m.name + ", weights", {}, column(m, weight_ratio)});
    plot.series.push_back({m.name + ", outputs", {}, column(m, activation_ratio)});
  }
  if (!o.json.empty()) write_atomically(o.json, json_text(j, 2) + "\n");
  if (!o.plot.empty()) data::save_line_plot(o.plot, plot);
}

}  // namespace

void add_outliers_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command(
      "outliers",
      "Compare the ranges of weights and activations, layer by layer, of several models");
  c.alias("spread");  // the name in earlier versions
  c.add_option("NAME=MODEL", o->models, "checkpoints or deploy files, each with a name")
      .reads()
      .required();
  add_data_option(c, o->data);
  c.add_option("--split NAME", o->split, "split to take images from").show_default();
  c.add_option("--images N", o->images, "images to run").range(1, 1000000).show_default();
  add_image_size_option(c, o->image_size);
  c.add_option("--json FILE", o->json, "write the table to this file").writes();
  c.add_option("--plot FILE", o->plot, "draw the ranges into this PNG").writes();
  c.examples({"sextant outliers repvgg=a.safetensors repopt=b.safetensors --data /data/bccd"});
  c.callback([o] { run(*o); });
}

}  // namespace sextant::apps
