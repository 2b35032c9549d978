// SPDX-License-Identifier: Apache-2.0
// YOLOv6-N whole on the device, in f32, against the official implementation's outputs and
// gradients.
#include "simt/accelerator.h"
#include "support/model_checks.h"

namespace sextant::test {
namespace {

// Minutes on the runner: there they are run by name.
#if defined(SEXTANT_SIMT)
constexpr const char* kTags = "[.slow]";
#else
constexpr const char* kTags = "[gpu]";
#endif

std::unique_ptr<Yolov6> on_device(const SafeTensors& f, bool training) {
  Yolov6Config config = yolov6_preset(f.meta("model"));
  config.num_classes = std::stoll(f.meta("num_classes"));
  config.use_dfl = f.meta("use_dfl") == "True";
  config.reg_max = std::stoll(f.meta("reg_max"));
  auto model = formula_model(config, f);
  model->train(training);
  model->to(Device::kCuda);
  return model;
}

TEST_CASE("device: YOLOv6-N in evaluation mode computes what the official one does", kTags) {
  const TestDevice device;
  if (!device.usable()) return;
  SEXTANT_REQUIRE_FIXTURE(f, "models/yolov6n");
  Deviations d;
  check_eval(*on_device(f, false), f, d);
  WARN("outputs are " << d.eval << " away");
}

TEST_CASE("device: YOLOv6-N in training mode, its gradients and its loss are the official ones",
          kTags) {
  const TestDevice device;
  if (!device.usable()) return;
  SEXTANT_REQUIRE_FIXTURE(f, "models/yolov6n");
  const auto model = on_device(f, true);
  Deviations d;
  check_train(*model, f, d);
  check_loss(*model, f, d);
  WARN("outputs are " << d.train << " away, statistics " << d.after << ", gradients in the middle "
                      << d.grad_median << ", loss " << d.loss);
}

}  // namespace
}  // namespace sextant::test
