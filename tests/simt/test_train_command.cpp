// SPDX-License-Identifier: Apache-2.0
// The whole training loop on the device: images, augmentation, model, assignment, losses,
// optimizer, averages, evaluation and the files of a run, beside the same run on the host.
#include "apps/training/trainer.h"
#include "core/safetensors.h"
#include "data/synthetic/shapes_dataset.h"
#include "simt/accelerator.h"
#include "support/support.h"

namespace sextant::test {
namespace {

TEST_CASE("device: a training run as on the host, and it can be resumed") {
  const TestDevice device;
  if (!device.usable()) return;
  const TemporaryFolder folder;
  data::generate_shapes(folder / "data", {.train = 4, .val = 1, .width = 64, .height = 64});
  const auto run = [&](const char* where, int epochs, int stop_after, bool resume,
                       const char* precision = "fp32") {
    const Json json = {
        {"precision", precision},
        {"seed", 7},
        {"device", where},
        {"epochs", epochs},
        {"batch", 2},
        {"image_size", 64},
        {"close_mosaic", 1},
        {"eval_interval", 2},
        {"data", {{"path", (folder / "data").string()}}},
        {"model", {{"type", "yolov6n_opt"}, {"width_multiple", 0.01}, {"depth_multiple", 0.1}}},
        {"solver", {{"nominal_batch", 4}, {"warmup_epochs", 1}}}};
    apps::train(apps::parse_train_config(json, "test", ""), folder / where, resume, stop_after);
  };
  run("cpu", 2, 0, false);
  run("cuda", 2, 1, false);
  run("cuda", 2, 0, true);
  const SafeTensors host = load_safetensors(folder / "cpu" / "last.safetensors");
  const SafeTensors there = load_safetensors(folder / "cuda" / "last.safetensors");
  REQUIRE(host.tensors.size() == there.tensors.size());
  double moved = 0;
  for (size_t i = 0; i < host.tensors.size(); ++i) {
    const auto& [name, a] = host.tensors[i];
    const auto& [other, b] = there.tensors[i];
    INFO(name);
    REQUIRE(name == other);
    REQUIRE(a.shape() == b.shape());
    if (a.dtype() != DType::kF32) continue;
    double largest = 0, difference = 0;
    for (int64_t k = 0; k < a.numel(); ++k) {
      largest = std::max(largest, std::abs(double{a.f32()[k]}));
      difference = std::max(difference, std::abs(double{a.f32()[k]} - double{b.f32()[k]}));
    }
    CHECK(difference <= 1e-3 * largest + 1e-6);
    moved = std::max(moved, largest);
  }
  CHECK(moved > 0);

  // In f16 an epoch ends with finite weights, and the loss scale is part of the state.
  std::filesystem::remove_all(folder / "cuda");
  run("cuda", 1, 0, false, "fp16");
  const SafeTensors state = load_safetensors(folder / "cuda" / "resume.safetensors");
  CHECK(state.at("scaler.scale").item() >= 1.0);
  for (const auto& [name, t] : state.tensors)
    if (t.dtype() == DType::kF32)
      for (const float v : t.span<float>()) REQUIRE(std::isfinite(v));
  CHECK_THROWS_WITH(run("cpu", 2, 0, true, "bf16"), Contains("needs a GPU"));
}

}  // namespace
}  // namespace sextant::test
