// SPDX-License-Identifier: Apache-2.0
// From an official file to our checkpoint, and back to a file for PyTorch.
#include <cmath>

#include "apps/model_files/import.h"
#include "models/import/import_pt.h"
#include "models/import/torch_file.h"
#include "support/fixtures.h"
#include "support/same_tensors.h"

using namespace sextant;
using namespace sextant::apps;
using test::check_same_tensors;
using test::contains;

TEST_CASE("a checkpoint survives the round trip to PyTorch's format") {
  const test::TemporaryFolder folder;
  const Yolov6Config config = read_yolov6_config(ConfigReader(Json::object(), "model"), 3);
  const Yolov6 model(config, 1);
  CheckpointInfo info;
  info.model = {{"type", "yolov6n_opt"}};
  info.class_names = {"a", "b", "c"};
  info.image_size = 64;
  save_checkpoint(folder / "a.safetensors", model, info);
  const SafeTensors first = load_safetensors(folder / "a.safetensors");
  load_checkpoint(first);
  save_torch_state_dict(folder / "a.pt", first);

  ImportOptions options;
  options.image_size = 64;
  options.class_names = info.class_names;
  const ImportResult r = import_checkpoint(folder / "a.pt", folder / "b.safetensors", options);
  CHECK(r.tensors == first.tensors.size());
  CHECK(r.info.model.at("type") == "yolov6n_opt");
  const SafeTensors second = load_safetensors(folder / "b.safetensors");
  check_same_tensors(first, second);
  const LoadedCheckpoint loaded = load_checkpoint(second);
  CHECK(loaded.info.class_names == info.class_names);
  CHECK(loaded.info.image_size == 64);
  // The state dict may come as safetensors too; without names, classes are called by number.
  SafeTensors plain = first;
  plain.metadata.clear();
  save_safetensors(folder / "plain.safetensors", plain);
  const ImportResult p =
      import_checkpoint(folder / "plain.safetensors", folder / "c.safetensors", {});
  CHECK(p.info.class_names == std::vector<std::string>{"0", "1", "2"});
  CHECK(p.info.image_size == 640);
  check_same_tensors(first, load_safetensors(folder / "c.safetensors"));

  options.class_names = {"a"};
  CHECK(contains(test::error_of([&] {
                   import_checkpoint(folder / "a.pt", folder / "d.safetensors", options);
                 }),
                 "has 3 classes, but 1 class names"));
  options.image_size = 100;
  CHECK(contains(test::error_of([&] {
                   import_checkpoint(folder / "a.pt", folder / "d.safetensors", options);
                 }),
                 "image size 100 must be a multiple of 32"));
  CHECK(!std::filesystem::exists(folder / "d.safetensors"));
  CHECK(contains(test::error_of([&] { load_checkpoint(plain); }), "is neither a checkpoint"));
}

TEST_CASE("each official checkpoint is converted") {
  const test::TemporaryFolder folder;
  for (const auto& path : test::shared_files("checkpoints", ".pt")) {
    INFO(path.string());
    const ImportResult r = import_checkpoint(path, folder / "a.safetensors", {});
    const SafeTensors file = load_safetensors(folder / "a.safetensors");
    load_checkpoint(file);
    CHECK(file.tensors.size() == r.tensors);
    CHECK(r.info.epoch >= 0);
    save_torch_state_dict(folder / "a.pt", file);
    check_same_tensors(file, import_weights(folder / "a.pt").state);
  }
}

// Checkpoints whose batch-norms are folded: they become models again, with the same predictions.
TEST_CASE("each fused checkpoint predicts what the official implementation predicted") {
  const test::TemporaryFolder folder;
  for (const auto& path : test::shared_files("checkpoints", ".safetensors")) {
    if (path.string().ends_with(".expected.safetensors")) continue;
    INFO(path.string());
    import_checkpoint(path, folder / "a.safetensors", {});
    LoadedCheckpoint loaded = load_checkpoint(load_safetensors(folder / "a.safetensors"));
    const SafeTensors file = load_safetensors(path);
    CHECK(Json(loaded.info.class_names) == Json::parse(file.meta("class_names")));
    CHECK(std::to_string(loaded.info.image_size) == file.meta("input"));
    std::filesystem::path expected = path;
    const SafeTensors e = load_safetensors(expected.replace_extension(".expected.safetensors"));
    const Tensor bytes = nchw_to_nhwc(e.at("input.image"));
    Tensor image(bytes.shape());
    for (int64_t i = 0; i < image.numel(); ++i)
      image.f32()[i] = static_cast<float>(bytes.data<uint8_t>()[i]) / 255.0f;
    const NoGrad no_grad;
    const Tensor rows = loaded.model->predict(Variable(image)).data();
    const Tensor& official = e.at("output.pred");
    REQUIRE(rows.shape() == official.shape());
    double box = 0, score = 0;
    for (int64_t i = 0; i < rows.numel(); ++i) {
      double& worst = i % rows.dim(-1) < 4 ? box : score;
      worst = std::max<double>(worst, std::abs(rows.f32()[i] - official.f32()[i]));
    }
    CAPTURE(box, score);
    CHECK(box < 0.01);  // pixels; what float32 is away from double
    CHECK(score < 1e-5);
  }
}
