// SPDX-License-Identifier: Apache-2.0
#include "training.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "../synthetic.h"
#include "apps/training/train_step.h"
#include "core/device.h"
#include "core/median.h"
#include "core/rng.h"
#include "models/loss/detection_loss.h"
#include "models/yolov6.h"
#include "optim/ema.h"
#include "optim/grad_scaler.h"
#include "optim/sgd.h"

namespace sextant::bench {
namespace {

constexpr int64_t kClasses = 80;

// Seconds of one step: median over rounds of several, each waited for. `record`: replayed as a CUDA
// graph, as `sextant train` does it.
double step_seconds(const std::string& preset, DType type, bool record, int64_t batch,
                    int64_t size) {
  Yolov6Config config = yolov6_preset(preset);
  config.num_classes = kClasses;
  Yolov6 model(config, 1);
  model.to(Device::kCuda);
  std::vector<optim::NamedParameter> parameters;
  for (const auto& p : model.parameters())
    parameters.push_back(optim::named_parameter(p.name, p.variable));
  optim::NamedTensors state;
  for (const auto& s : model.state()) state.emplace_back(s.name, s.tensor);
  optim::ModelEma ema(state);
  optim::Sgd sgd(parameters, {5e-4, true});
  sgd.average_into(ema);
  optim::GradScaler scaler(Device::kCuda);
  const DetectionLoss loss(config.loss());
  Rng rng(5);
  const Tensor bytes(Shape{batch, size, size, 3}, DType::kU8);
  for (auto& v : bytes.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  const Tensor images = bytes.to(Device::kCuda), targets = random_targets(batch, kClasses, rng);
  const bool scaled = type == DType::kF16;
  apps::TrainStep pass(model, loss, nullptr, scaled ? &scaler : nullptr,
                       {.type = type, .record = record});
  const auto step = [&] {
    pass.run(images, targets, 0);
    if (scaled)
      scaler.step(sgd, {1e-3, 1e-3, 1e-3}, 0.9);
    else
      sgd.step({1e-3, 1e-3, 1e-3}, 0.9);
    sgd.zero_grad();
  };
  constexpr int kRounds = 7, kSteps = 5;
  std::vector<double> times;
  for (int round = -2; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kSteps; ++i) step();
    accelerator().synchronize(compute_stream());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (round >= 0) times.push_back(took.count() / kSteps);
  }
  return median(times);
}

}  // namespace

Json measure_training(const std::string& preset, int64_t batch, int64_t size) {
  Json rows = Json::array();
  struct Row {
    const char* precision;
    DType type;
    bool record;
  };
  for (const Row& r : {Row{"fp32", DType::kF32, true}, Row{"fp16", DType::kF16, true},
                       Row{"bf16", DType::kBF16, true}, Row{"fp16", DType::kF16, false}}) {
    device_reset_peak();
    const double seconds = step_seconds(preset, r.type, r.record, batch, size);
    const double rate = static_cast<double>(batch) / seconds;
    rows.push_back({{"precision", r.precision},
                    {"cuda_graph", r.record},
                    {"batch", batch},
                    {"ms", 1e3 * seconds},
                    {"images_per_second", rate},
                    {"peak_memory_mb", static_cast<double>(device_stats().peak_bytes) / 1e6}});
    fmt::print(stderr, "{} training step {} batch {}{}: {:.2f} ms, {:.0f} images/s\n", preset,
               r.precision, batch, r.record ? "" : ", kernel by kernel", 1e3 * seconds, rate);
  }
  return rows;
}

}  // namespace sextant::bench
