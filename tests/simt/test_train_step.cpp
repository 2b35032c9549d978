// SPDX-License-Identifier: Apache-2.0
// Training steps that are recorded and replayed, against the same steps started kernel by kernel:
// equal to the bit.

#include "apps/training/train_step.h"
#include "core/rng.h"
#include "optim/sgd.h"
#include "simt/accelerator.h"
#include "simt/training_curve.h"
#include "support/same_tensors.h"
#include "support/support.h"

namespace sextant::test {
namespace {

using apps::TrainStep;

constexpr int64_t kSide = 64, kBatch = 2;

struct Step {
  int64_t boxes = 0;  // of each image
  int64_t epoch = 0;
  bool update = true;  // else the next step's gradients are added
  int64_t images = kBatch;
};
struct Kind {
  DType type = DType::kF32;
  bool teacher = false;
};
struct TrainingOutcome {
  SafeTensors state;
  std::vector<double> losses;
  std::vector<bool> replayed;
};

Tensor targets_of(const Step& step, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> rows;
  for (int64_t n = 0; n < step.images; ++n)
    for (int64_t k = 0; k < step.boxes; ++k)
      for (const double v :
           {static_cast<double>(n), static_cast<double>(rng.below(3)), rng.uniform(0.2, 0.8),
            rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.4)})
        rows.push_back(static_cast<float>(v));
  return Tensor::from(Shape{static_cast<int64_t>(rows.size()) / 6, 6}, rows);
}
Tensor images_of(const Step& step, uint64_t seed) {
  Rng rng(seed);
  const Tensor t(Shape{step.images, kSide, kSide, 3}, DType::kU8);
  for (uint8_t& v : t.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  return t.to(Device::kCuda);
}

TrainingOutcome train(const TestDevice& device, const Kind& kind, const std::vector<Step>& steps,
                      bool record) {
  Yolov6Config config = tiny_yolov6("yolov6n_opt");
  config.training_mode = TrainingMode::kRepOpt;
  const auto model = make_tiny_yolov6(config, 5), teacher = make_tiny_yolov6(config, 6);
  model->to(Device::kCuda);
  teacher->to(Device::kCuda);
  teacher->train(false);
  std::vector<optim::NamedParameter> parameters;
  for (const ParameterRef& p : model->parameters())
    parameters.push_back(optim::named_parameter(p.name, p.variable));
  optim::Sgd sgd(parameters, {.weight_decay = 5e-4});
  optim::GradScaler scaler(Device::kCuda, {.scale = 1024.0f});
  LossConfig loss_config = config.loss();
  loss_config.max_epoch = 2;
  if (kind.teacher) loss_config.distill_feat_weight = 0.5;
  const DetectionLoss loss(loss_config);
  const bool scaled = kind.type == DType::kF16;
  TrainStep step(*model, loss, kind.teacher ? teacher.get() : nullptr, scaled ? &scaler : nullptr,
                 {.type = kind.type, .record = record});
  TrainingOutcome outcome;
  uint64_t seed = 100;
  for (const Step& s : steps) {
    const Tensor images = images_of(s, ++seed);
    const int64_t waits = device.host_waits();
    const LossValues values = step.run(images, targets_of(s, seed), s.epoch);
    CHECK(device.host_waits() == waits);
    outcome.replayed.push_back(step.replayed());
    if (s.update) {
      if (scaled)
        scaler.step(sgd, {0.001, 0.001, 0.001}, 0.9);
      else
        sgd.step({0.001, 0.001, 0.001}, 0.9);
      sgd.zero_grad();
    }
    outcome.losses.push_back(values.items().total());
  }
  model->save_state(outcome.state);
  return outcome;
}

void require_equal(const TrainingOutcome& a, const TrainingOutcome& b) {
  REQUIRE(a.losses.size() == b.losses.size());
  for (size_t i = 0; i < a.losses.size(); ++i) {
    CAPTURE(i);
    CHECK(std::isfinite(a.losses[i]));
    CHECK(a.losses[i] == b.losses[i]);
  }
  check_same_tensors(a.state, b.state);
}

// More boxes in the fourth step than the recording has room for; a smaller batch in the sixth.
std::vector<Step> some_steps() {
  return {{3, 0}, {0, 0, false}, {2, 0}, {40, 0, false}, {1, 0}, {2, 0, true, 1}};
}

TEST_CASE("device: recorded training steps equal those started kernel by kernel") {
  const TestDevice device;
  if (!device.usable()) return;
  const TrainingOutcome recorded = train(device, {}, some_steps(), true),
                        plain = train(device, {}, some_steps(), false);
  require_equal(recorded, plain);
  CHECK(recorded.replayed == std::vector<bool>{false, true, true, false, true, false});
  CHECK(plain.replayed == std::vector<bool>(6, false));
  CHECK(recorded.losses[0] != recorded.losses[2]);
}

TEST_CASE("device: recorded training steps with a teacher and a loss scale") {
  const TestDevice device;
  if (!device.usable()) return;
  const Kind kind{DType::kF16, true};
  const std::vector<Step> steps = {{3, 0}, {2, 0}, {2, 1}, {1, 1}};
  const TrainingOutcome recorded = train(device, kind, steps, true),
                        plain = train(device, kind, steps, false);
  require_equal(recorded, plain);
  // What the teacher counts changes with the epoch.
  CHECK(recorded.replayed == std::vector<bool>{false, true, false, true});
}

TEST_CASE("device: steps that cannot be recorded are done all the same") {
  TestDevice device;
  if (!device.usable() || !device.refuse_recordings()) return;
  const std::vector<Step> steps = {{3, 0}, {0, 0, false}, {2, 0}};
  const TrainingOutcome refused = train(device, {}, steps, true),
                        plain = train(device, {}, steps, false);
  require_equal(refused, plain);
  CHECK(refused.replayed == std::vector<bool>(3, false));
}

}  // namespace
}  // namespace sextant::test
