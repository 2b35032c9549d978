#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "apps/checkpoint.h"
#include "apps/command_line.h"
#include "apps/commands.h"
#include "core/progress.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "deploy/simulate.h"

namespace sextant::apps {

namespace {

struct Options {
  std::string model, data, split = "val", precision = "int8";
  int image_size = 0;
  int64_t images = 16;
};

// The larger differences and the sums of both.
void merge(std::vector<deploy::StepDifference>& worst,
           const std::vector<deploy::StepDifference>& found) {
  worst.resize(found.size());
  for (size_t k = 0; k < found.size(); ++k) {
    deploy::StepDifference& w = worst[k];
    w.tensor = found[k].tensor;
    w.floats = found[k].floats;
    w.max_steps = std::max(w.max_steps, found[k].max_steps);
    w.max_float = std::max(w.max_float, found[k].max_float);
    w.differing += found[k].differing;
    w.values += found[k].values;
  }
}

void report(const std::vector<deploy::StepDifference>& worst, int64_t images, bool integer) {
  int64_t steps = 0, differing = 0, values = 0;
  double floats = 0;
  for (const auto& w : worst) {
    steps = std::max(steps, w.max_steps);
    floats = std::max(floats, w.max_float);
    differing += w.floats ? 0 : w.differing;
    values += w.floats ? 0 : w.values;
    if (w.max_float > 0)
      fmt::print("  {:<48} within {:.2e} of its largest\n", w.tensor, w.max_float);
    else if (w.max_steps > 0)
      fmt::print("  {:<48} at most {} steps, {} of {} values\n", w.tensor, w.max_steps, w.differing,
                 w.values);
  }
  fmt::print(
      "{} images, {} tensors: {} differ by at most {} steps, in {} of {} integers; head "
      "outputs and result by at most {:.2e} of the largest\n",
      images, worst.size(),
      integer ? "layers of the fully integer and the int8 engine" : "engine and simulation", steps,
      differing, values, floats);
}

void run(const Options& o) {
  const deploy::Graph graph = load_model_graph(o.model);
  const int size = choose_image_size(o.image_size, graph);
  const data::Dataset dataset = data::open_dataset(o.data, o.split);
  const bool integer = o.precision == "integer";
  deploy::EngineConfig config{1, size, size, deploy::Precision::kInt8};
  deploy::Engine int8(graph, config);
  config.precision = deploy::Precision::kInteger;
  deploy::Engine other =
      integer ? deploy::Engine(graph, config) : deploy::make_simulation(graph, config);
  std::vector<deploy::StepDifference> worst;
  const int64_t total = std::min(o.images, dataset.size());
  Progress progress("verify", total);
  for (int64_t i = 0; i < total; ++i) {
    const Tensor images =
        data::load_batch(dataset, i, i + 1, size, static_cast<int>(graph.gray_border)).images;
    merge(worst, integer ? deploy::compare_layers(other, int8, images)
                         : deploy::compare_engines(int8, other, images));
    progress.update(i + 1);
  }
  progress.finish();
  report(worst, total, integer);
}

}  // namespace

void add_verify_command(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "verify", "Compare the int8 engine with the fake-quant simulation, tensor by tensor");
  c->add_option("MODEL", o->model, "Quantized deploy file")->required();
  c->add_option("--data", o->data, "Dataset: folder, JSON or data.yaml")->required();
  c->add_option("--split", o->split, "train, val or test")->capture_default_str();
  c->add_option(
       "--precision", o->precision,
       "int8: engine and simulation; integer: each layer of the fully integer engine and of "
       "the int8 engine, on the same inputs")
      ->check(CLI::IsMember({"int8", "integer"}))
      ->capture_default_str();
  c->add_option("--images", o->images, "Images to run")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  c->add_option("--img", o->image_size, "Image size (default: as trained)");
  c->callback([o] { run(*o); });
}

}  // namespace sextant::apps
