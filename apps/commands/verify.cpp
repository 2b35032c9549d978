#include "apps/quantizing/verify.h"

#include <fmt/format.h>

#include <memory>

#include "apps/cli/command_line.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "data/dataset/dataset.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {

namespace {

struct Options {
  std::string model, data, split = "val", precision = "int8";
  int image_size = 0;
  int64_t images = 16;
};

void run(const Options& o) {
  const deploy::Graph graph = load_model_graph(o.model);
  const int size = deploy::choose_image_size(o.image_size, graph, "--img");
  const data::Dataset dataset = deploy::open_dataset_for(graph, o.data, o.split);
  const deploy::Precision precision = from_name<deploy::Precision>(o.precision);
  const Verification v = verify(graph, dataset, o.images, size, precision);
  for (const auto& w : v.tensors) {
    if (w.max_float > 0)
      fmt::print("  {:<48} within {:.2e} of its largest\n", w.tensor, w.max_float);
    else if (w.max_steps > 0)
      fmt::print("  {:<48} at most {} steps, {} of {} values\n", w.tensor, w.max_steps, w.differing,
                 w.values);
  }
  fmt::print(
      "{} images, {} tensors: {} differ by at most {} steps, in {} of {} integers; head "
      "outputs and result by at most {:.2e} of the largest\n",
      v.images, v.tensors.size(),
      precision == deploy::Precision::kInteger ? "layers of the fully integer and the int8 engine"
                                               : "engine and simulation",
      v.max_steps, v.differing, v.values, v.max_float);
}

}  // namespace

void add_verify_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command(
      "verify", "Compare the int8 engine with the fake-quant simulation, tensor by tensor");
  c.add_option("MODEL", o->model, "Quantized deploy file").reads().required();
  c.add_option("--data", o->data, "Dataset: folder, JSON or data.yaml").reads_data().required();
  c.add_option("--split", o->split, "train, val or test").show_default();
  c.add_option(
       "--precision", o->precision,
       "int8: engine and simulation; integer: each layer of the fully integer engine and of "
       "the int8 engine, on the same inputs")
      .one_of({"int8", "integer"})
      .show_default();
  c.add_option("--images", o->images, "Images to run").range(1, 1000000).show_default();
  c.add_option("--img", o->image_size, "Image size (default: as trained)").range(1, 8192);
  c.callback([o] { run(*o); });
}

}  // namespace sextant::apps
