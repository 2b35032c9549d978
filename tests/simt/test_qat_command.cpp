// SPDX-License-Identifier: Apache-2.0
// A whole run of quantization-aware training on the device beside the same run on the host:
// calibration, teacher, student, losses, optimizer, average, evaluation in int8, resuming.
#include <cstring>

#include "apps/model_files/checkpoint.h"
#include "apps/quantizing/qat.h"
#include "data/synthetic/shapes_dataset.h"
#include "deploy/graph/file.h"
#include "simt/accelerator.h"
#include "simt/training_curve.h"
#include "support/support.h"

namespace sextant::test {
namespace {

void make_model(const std::filesystem::path& path) {
  Yolov6Config config = tiny_yolov6("yolov6n_opt");
  config.num_classes = 6;
  const auto model = make_tiny_yolov6(config, 5);
  apps::CheckpointInfo info;
  info.model = config.json();
  for (int64_t c = 0; c < config.num_classes; ++c)
    info.class_names.push_back(data::shape_names()[static_cast<size_t>(c)]);
  info.image_size = 64;
  info.epoch = 20;
  apps::save_checkpoint(path, *model, info);
}

// The largest difference of two weights, relative to the largest weight of the layer.
double weights_apart(const deploy::Graph& a, const deploy::Graph& b) {
  double worst = 0;
  REQUIRE(a.nodes.size() == b.nodes.size());
  for (size_t n = 0; n < b.nodes.size(); ++n) {
    if (!b.nodes[n].has_weight()) continue;
    const double d = relative_difference(a.nodes[n].weight, b.nodes[n].weight);
    if (d > worst) UNSCOPED_INFO(b.nodes[n].name << " differs by " << d);
    worst = std::max(worst, d);
  }
  return worst;
}

TEST_CASE("device: quantization-aware training as on the host, and it can be resumed") {
  const TestDevice device;
  if (!device.usable()) return;
  const TemporaryFolder folder;
  data::generate_shapes(folder / "data", {.train = 2, .val = 1, .width = 64, .height = 64});
  make_model(folder / "model.safetensors");
  const auto run = [&](const char* out, const char* where, int64_t stop_after, bool resume,
                       bool learned) {
    // With this seed no level rounds the other way. With 4 some do, identities split off or not,
    // and biases, which are all gradient after two steps, are far apart.
    const Json json = {{"seed", 5},
                       {"device", where},
                       {"model", (folder / "model.safetensors").string()},
                       {"batch", 2},
                       {"epochs", 2},
                       {"eval_interval", 2},
                       {"learn_scales", learned},
                       {"calibration", {{"images", 2}, {"method", "max"}}},
                       {"data", {{"path", (folder / "data").string()}}},
                       {"solver", {{"lr0", 0.002}, {"ema_decay", 0.9}}}};
    apps::train_qat(apps::parse_qat_config(json, "test", ""), folder / out, resume, stop_after);
  };
  const auto last = [&](const char* out) {
    return deploy::load_deploy(folder / out / "last.safetensors");
  };
  run("cpu", "cpu", 0, false, false);
  run("cuda", "cuda", 1, false, false);
  run("cuda", "cuda", 0, true, false);
  const deploy::Graph host = last("cpu"), there = last("cuda");
  // Deployed weights are rounded: what differs by rounding is one step of 1/127 apart.
  CHECK(weights_apart(there, host) < 0.02);
  CHECK(weights_apart(there, deploy::load_deploy(folder / "cuda" / "start.safetensors")) > 0);
  for (size_t t = 0; t < host.tensors.size(); ++t)
    CHECK(there.tensors[t].amax == Approx(host.tensors[t].amax).epsilon(1e-5));
  // Unrounded, in the state of the run.
  const SafeTensors a = load_safetensors(folder / "cuda" / "resume.safetensors"),
                    b = load_safetensors(folder / "cpu" / "resume.safetensors");
  REQUIRE(a.tensors.size() == b.tensors.size());
  double worst = 0;
  for (const auto& [name, t] : b.tensors) {
    CAPTURE(name);
    if (!name.starts_with("model.") && !name.starts_with("ema.")) continue;
    if (t.dtype() != DType::kF32) continue;
    worst = std::max(worst, relative_difference(a.at(name), t));
    CHECK(relative_difference(a.at(name), t) < 3e-3);
  }
  INFO("weights differ by " << worst);

  // Learned ranges and scales: in two parts the same bits as in one go.
  run("learned", "cuda", 0, false, true);
  run("parts", "cuda", 1, false, true);
  run("parts", "cuda", 0, true, true);
  const SafeTensors whole = load_safetensors(folder / "learned" / "resume.safetensors"),
                    parts = load_safetensors(folder / "parts" / "resume.safetensors");
  for (const auto& [name, t] : whole.tensors) {
    CAPTURE(name);
    CHECK(std::memcmp(parts.at(name).raw(), t.raw(), static_cast<size_t>(t.bytes())) == 0);
  }
  CHECK(last("learned").tensors[1].amax != there.tensors[1].amax);
}

}  // namespace
}  // namespace sextant::test
