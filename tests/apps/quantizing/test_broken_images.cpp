// SPDX-License-Identifier: Apache-2.0
// Images that cannot be decoded are left out of evaluation and calibration; classes are matched by
// name.
#include <filesystem>

#include "apps/model_files/checkpoint.h"
#include "apps/quantizing/calibrate.h"
#include "core/file.h"
#include "deploy/detect/detector_pool.h"
#include "deploy/detect/evaluation.h"
#include "deploy/graph/file.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::apps;
using sextant::test::Contains;
using test::error_of;

namespace {

// Four images with a box each, and a model for them.
struct Set {
  test::TemporaryFolder folder;
  deploy::Graph graph;

  Set() {
    write_atomically(folder / "classes.json", std::string_view(R"({"names": ["disc", "block"]})"));
    for (int i = 0; i < 4; ++i) {
      data::Image image = data::make_image(64, 48, 60);
      for (size_t k = 0; k < image.pixels.size(); ++k)
        image.pixels[k] = static_cast<uint8_t>(k * 31 % 97 + static_cast<size_t>(i));
      data::save_png(folder / fmt::format("images/val/{}.png", i), image);
      write_atomically(folder / fmt::format("labels/val/{}.txt", i),
                       std::string_view("1 0.5 0.5 0.5 0.5\n"));
    }
    CheckpointInfo info;
    info.model = {{"type", "yolov6n"}, {"width_multiple", 0.0625}, {"depth_multiple", 0.1}};
    info.class_names = {"disc", "block"};
    info.image_size = 64;
    Yolov6 model(read_yolov6_config(ConfigReader(info.model, "m"), 2), 1);
    graph = to_graph(model, info);
    graph.source = "m.safetensors";
  }
  void ruin(int i) const {
    const auto file = folder / fmt::format("images/val/{}.png", i);
    std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  }
  data::Dataset open(data::OnError on_error = data::OnError::kSkip) const {
    return deploy::open_dataset_for(graph, folder.path().string(), "val", {on_error});
  }
};

int64_t images_of(quant::ImageSource source) {
  int64_t n = 0;
  for (Tensor t = source(); t.defined(); t = source()) n += t.dim(0);
  return n;
}

}  // namespace

TEST_CASE("evaluation: images that cannot be decoded are left out") {
  const Set s;
  const auto evaluate = [&](const data::Dataset& d) {
    return deploy::evaluate(s.graph, d, 64, deploy::Precision::kFloat32);
  };
  s.ruin(1);
  const data::Dataset d = s.open();
  const deploy::EvalResult r = evaluate(d);
  CHECK(r.times.images == 3);
  CHECK(r.metrics.per_class[1].truths == 3);
  CHECK(evaluate(d).times.images == 3);
  CHECK(d.broken->report().issues().size() == 1);
  CHECK_THAT(error_of([&] { evaluate(s.open(data::OnError::kStop)); }),
             Contains("1.png: the image does not"));
  for (const int i : {0, 2, 3}) s.ruin(i);
  CHECK_THAT(error_of([&] { evaluate(s.open()); }),
             Contains("none of the images of split 'val' can be decoded"));
}

TEST_CASE("evaluation: of several images at a time each has the boxes that it has alone") {
  const Set s;
  s.ruin(1);
  const data::Dataset d = s.open();
  const deploy::Graph graph =
      quant::quantize(s.graph, spread_images(d, 3, 64, s.graph), {.images = 3});
  deploy::DetectorConfig config;
  config.image_size = 64;
  config.precision = deploy::Precision::kInt8;
  config.nms.conf = 0.0001f;
  config.nms.iou = 0.65;
  config.nms.multi_label = true;
  REQUIRE(deploy::batch_for_many(config) > 1);
  const deploy::EvalResult r =
      deploy::evaluate(graph, d, 64, config.precision, {.conf = 0.0001, .iou = 0.65});
  REQUIRE(r.samples == std::vector<int64_t>{0, 2, 3});
  deploy::Detector alone(graph, config);
  for (size_t i = 0; i < r.images.size(); ++i) {
    const auto image = data::load_sample(d, r.samples[i]);
    const auto expected = alone.run(*image);
    REQUIRE(!expected.empty());
    REQUIRE(r.images[i].detections.size() == expected.size());
    for (size_t k = 0; k < expected.size(); ++k)
      CHECK(r.images[i].detections[k].score == expected[k].score);
  }
  const auto one = data::load_sample(d, 0);
  const std::vector<const data::Image*> two(2, &*one);
  CHECK(error_of([&] { alone.run(two); }) == "Detector: 2 images at a time, made for 1");
}

TEST_CASE("calibration: images that cannot be decoded are replaced or left out") {
  const Set s;
  s.ruin(1);
  const data::Dataset d = s.open();
  CHECK(images_of(spread_images(d, 4, 64, {})) == 3);
  CHECK(images_of(spread_images(d, 4, 64, {}, 3)) == 3);
  CHECK(images_of(spread_images(d, 2, 64, {})) == 2);
  s.ruin(0);
  CHECK(spread_batch(s.open(), 1, 64, {}).dim(0) == 1);
  for (const int i : {2, 3}) s.ruin(i);
  CHECK_THAT(error_of([&] { spread_batch(s.open(), 2, 64, {}); }),
             Contains("none of the images of split 'val' can be decoded"));
}

TEST_CASE(
    "evaluation: classes are matched by name, and a model that is not a detector is refused") {
  Set s;
  s.graph.class_names = {"block", "disc"};
  const data::Dataset d = s.open();
  CHECK(d.samples[0].labels[0].category == 0);
  s.graph.class_names = {"block", "cross"};
  CHECK_THAT(error_of([&] { s.open(); }),
             Contains("m.safetensors") && Contains("it has 'disc', it lacks 'cross'"));
  s.graph.class_names = {"disc", "block"};
  for (int i = 0; i < 4; ++i)
    write_atomically(s.folder / fmt::format("labels/val/{}.txt", i), std::string_view(""));
  const data::Dataset empty = s.open();
  CHECK_THAT(error_of([&] { deploy::evaluate(s.graph, empty, 64, deploy::Precision::kFloat32); }),
             Contains("and no boxes"));
  s.graph.nodes.pop_back();
  CHECK_THAT(error_of([&] { deploy::evaluate(s.graph, d, 64, deploy::Precision::kFloat32); }),
             Contains("m.safetensors: is not a detector"));
}

TEST_CASE("engine: a file of a few kilobytes cannot allocate gigabytes of activations") {
  Set s;
  s.graph.image_size = 8192;
  CHECK_THAT(
      error_of([&] { deploy::Engine(s.graph, {.batch = 1, .height = 65536, .width = 65536}); }),
      Contains("m.safetensors"));
}
