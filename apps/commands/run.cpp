// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "core/npy.h"
#include "data/image/image.h"
#include "data/image/letterbox.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/detector.h"
#include "deploy/engine/engine.h"

namespace sextant::apps {
namespace {

struct Options {
  std::string model, out;
  std::vector<std::string> inputs;
  std::optional<deploy::Precision> precision;
  deploy::DeviceChoice device = deploy::DeviceChoice::kAuto;
  ImageSize image_size;
};

// Values of 0 to 1 as the bytes that the engine takes, each to the nearest.
Tensor to_bytes(const Tensor& values, const std::string& name) {
  Tensor out(values.shape(), DType::kU8);
  for (int64_t i = 0; i < values.numel(); ++i) {
    const float v = values.f32()[i];
    check(v >= 0 && v <= 1, "{}: holds {}; in this precision an image's values must be 0 to 1",
          name, v);
    out.data<uint8_t>()[i] = static_cast<uint8_t>(std::lround(v * 255));
  }
  return out;
}

// [N,H,W,3]: f32 where the engine takes it, else u8.
Tensor read_array(const std::string& file, bool floats) {
  const Tensor t = load_npy(file);
  check(t.shape().rank() == 4 && t.dim(0) >= 1 && t.dim(1) == 3,
        "{}: its shape is {}, must be [N,3,H,W]", file, t.shape().str());
  const Tensor images = nchw_to_nhwc(t);
  return floats ? images : to_bytes(images, file);
}

Tensor read_images(const std::vector<std::string>& files, const deploy::Graph& graph, int height) {
  const data::LetterboxOptions canvas = deploy::canvas_for(graph, height);
  Tensor images(Shape{std::ssize(files), height, canvas.width, 3}, DType::kU8);
  for (size_t i = 0; i < files.size(); ++i) {
    const data::Image image = data::load_image(files[i]);
    data::letterbox_into(
        image, data::letterbox_geometry(image.width, image.height, canvas), canvas.pad,
        images.data<uint8_t>() + static_cast<int64_t>(i) * 3 * height * canvas.width);
  }
  return images;
}

// The five best classes of each image.
void print_classes(const Tensor& scores, const deploy::Graph& graph) {
  constexpr int64_t kShown = 5;
  const int64_t classes = scores.dim(1);
  for (int64_t n = 0; n < scores.dim(0); ++n) {
    const float* row = scores.f32() + n * classes;
    std::vector<int64_t> order(static_cast<size_t>(classes));
    std::iota(order.begin(), order.end(), 0);
    const int64_t shown = std::min(kShown, classes);
    std::partial_sort(order.begin(), order.begin() + shown, order.end(),
                      [&](int64_t a, int64_t b) { return row[a] > row[b]; });
    for (int64_t k = 0; k < shown; ++k) {
      const int64_t id = order[static_cast<size_t>(k)];
      fmt::print("image {}: {:<24} {:.6g}\n", n, deploy::class_name(graph, id), row[id]);
    }
  }
}

void run(const Options& o) {
  deploy::Graph graph = load_model_graph(o.model);
  const auto is_array = [](const std::string& f) { return f.ends_with(".npy"); };
  const bool array = is_array(o.inputs.front());
  check(!array || o.inputs.size() == 1, "--input: takes one .npy file, or images");
  deploy::EngineConfig config;
  config.precision = deploy::choose_precision(o.precision, graph);
  config.device = deploy::choose_device(o.device, config.precision, false);
  config.float_images = array && config.precision == deploy::Precision::kFloat32;
  const int size = o.image_size.choose(graph);
  const Tensor images = array ? read_array(o.inputs.front(), config.float_images)
                              : read_images(o.inputs, graph, size);
  config.batch = images.dim(0);
  config.height = images.dim(1);
  config.width = images.dim(2);
  const Tensor result = deploy::Engine(graph, config).run(images);
  const Tensor out = result.shape().rank() == 4 ? nhwc_to_nchw(result) : result;
  save_npy(o.out, out);
  if (out.shape().rank() == 2) print_classes(out, graph);
  fmt::print("{}: {}, {}\n", o.out, out.shape().str(), name_of(config.precision));
}

}  // namespace

void add_run_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command("run", "Run any network and write its output as an array");
  add_model_argument(c, o->model);
  c.add_option("--input FILES", o->inputs, "a .npy file [N,3,H,W] of float32, or images")
      .reads()
      .required();
  c.add_option("--out FILE", o->out, "the output as .npy, float32; maps as [N,C,H,W]")
      .writes()
      .required();
  add_image_size_option(c, o->image_size);
  add_precision_option(c, o->precision);
  add_device_option(c, o->device);
  c.examples({"sextant run resnet18.safetensors --input cat.jpg dog.jpg --out logits.npy",
              "sextant run model.safetensors --input in.npy --out out.npy --precision fp32"});
  c.callback([o] { run(*o); });
}

}  // namespace sextant::apps
