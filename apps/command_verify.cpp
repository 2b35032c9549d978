#include <fmt/format.h>

#include <map>
#include <memory>

#include "apps/checkpoint.h"
#include "apps/command_line.h"
#include "apps/commands.h"
#include "core/progress.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "deploy/simulate.h"

namespace sextant::apps {

void add_verify_command(CLI::App& app) {
  struct Options {
    std::string model, data, split = "val";
    int image_size = 0;
    int64_t images = 16;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "verify", "Compare the int8 engine with the fake-quant simulation, tensor by tensor");
  c->add_option("MODEL", o->model, "Quantized deploy file")->required();
  c->add_option("--data", o->data, "Dataset: folder, JSON or data.yaml")->required();
  c->add_option("--split", o->split, "train, val or test")->capture_default_str();
  c->add_option("--images", o->images, "Images to run")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  c->add_option("--img", o->image_size, "Image size (default: as trained)");
  c->callback([o] {
    const deploy::Graph graph = load_model_graph(o->model);
    const int size = choose_image_size(o->image_size, graph);
    const data::Dataset dataset = data::open_dataset(o->data, o->split);
    const deploy::EngineConfig config{1, size, size, deploy::Precision::kInt8};
    deploy::Engine engine(graph, config);
    deploy::Engine simulation = deploy::make_simulation(graph, config);
    std::vector<deploy::StepDifference> worst;
    const int64_t total = std::min(o->images, dataset.size());
    Progress progress("verify", total);
    for (int64_t i = 0; i < total; ++i) {
      const auto found = deploy::compare_engines(
          engine, simulation,
          data::load_batch(dataset, i, i + 1, size, static_cast<int>(graph.gray_border)).images);
      worst.resize(found.size());
      for (size_t k = 0; k < found.size(); ++k) {
        worst[k].tensor = found[k].tensor;
        worst[k].max_steps = std::max(worst[k].max_steps, found[k].max_steps);
        worst[k].max_float = std::max(worst[k].max_float, found[k].max_float);
        worst[k].differing += found[k].differing;
        worst[k].values += found[k].values;
      }
      progress.update(i + 1);
    }
    progress.finish();
    int64_t steps = 0, differing = 0, values = 0;
    for (const auto& w : worst) {
      steps = std::max(steps, w.max_steps);
      differing += w.differing;
      values += w.values;
      if (w.max_steps > 0 || w.max_float > 0)
        fmt::print("  {:<48} at most {} steps, {} of {} values{}\n", w.tensor, w.max_steps,
                   w.differing, w.values,
                   w.max_float > 0 ? fmt::format(", float {:.2e}", w.max_float) : "");
    }
    fmt::print(
        "{} images, {} tensors: engine and simulation differ by at most {} steps, in {} of "
        "{} values\n",
        total, worst.size(), steps, differing, values);
  });
}

}  // namespace sextant::apps
