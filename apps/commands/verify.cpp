// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/verify.h"

#include <fmt/format.h>

#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "data/dataset/dataset.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {

namespace {

struct Options {
  std::string model, data, split = "val";
  deploy::Precision precision = deploy::Precision::kInt8;
  ImageSize image_size;
  int64_t images = 16;
};

void run(const Options& o) {
  deploy::Graph graph = load_model_graph(o.model);
  const int size = o.image_size.choose(graph);
  const data::Dataset dataset = deploy::open_dataset_for(graph, o.data, o.split);
  const Verification v = verify(graph, dataset, o.images, size, o.precision);
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
      o.precision == deploy::Precision::kInteger ? "layers of the fully integer and the int8 engine"
                                                 : "engine and simulation",
      v.max_steps, v.differing, v.values, v.max_float);
}

}  // namespace

void add_verify_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c =
      app.add_command("verify", "Compare the int8 engine with the simulation, tensor by tensor");
  c.add_option("MODEL", o->model, "quantized deploy file").reads().required();
  add_data_option(c, o->data);
  c.add_option("--split NAME", o->split, "split to take images from").show_default();
  c.add_option(
      "--precision NAME", o->precision,
      "engine to verify (int8 against the simulation, integer layer by layer against int8)",
      {deploy::Precision::kInt8, deploy::Precision::kInteger});
  c.add_option("--images N", o->images, "images to run").range(1, 1000000).show_default();
  add_image_size_option(c, o->image_size);
  c.examples({"sextant verify int8.safetensors --data /data/bccd",
              "sextant verify int8.safetensors --data /data/bccd --precision integer"});
  c.callback([o] { run(*o); });
}

}  // namespace sextant::apps
