// SPDX-License-Identifier: Apache-2.0
// A training of a few steps, for comparing the device with the host.
#pragma once

#include <functional>
#include <vector>

#include "models/yolov6.h"
#include "optim/grad_scaler.h"
#include "optim/optimizer.h"

namespace sextant::test {

// YOLOv6-N (RepBiFPAN neck, CSPSPPF) with 8 to 16 channels and one or two blocks a stage; or
// another preset, cut in the same way.
Yolov6Config tiny_yolov6(const std::string& type = "yolov6n");
// With predictions that are not zero at first, so that gradients reach all of it.
std::shared_ptr<Yolov6> make_tiny_yolov6(const Yolov6Config& config, uint64_t seed);

// The loss of a step: a scalar on the maps' device.
using StepLoss = std::function<Variable(const HeadOutput& output, int64_t step)>;
// A stand-in for a detection loss: the sum over all maps of w sigmoid(x), w random within +-1 over
// the number of values.
StepLoss sigmoid_loss(uint64_t seed);

struct Curve {
  int64_t steps = 10;
  int64_t batch = 2, side = 64;
  double lr = 0.02, momentum = 0.9;
  optim::GradScaler* scaler = nullptr;
};
// The loss of each step of a model in training mode on images of its device, different ones each
// step. Nothing is read back before the last step is done.
std::vector<double> train(const Yolov6& model, optim::Optimizer& optimizer, const StepLoss& loss,
                          const Curve& curve);

}  // namespace sextant::test
