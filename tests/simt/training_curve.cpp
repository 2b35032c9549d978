// SPDX-License-Identifier: Apache-2.0
#include "simt/training_curve.h"

#include "layers/functional.h"
#include "support/support.h"

namespace sextant::test {

Yolov6Config tiny_yolov6(const std::string& type) {
  Yolov6Config config = yolov6_preset(type);
  config.width_multiple = 0.01;
  config.depth_multiple = 0.1;
  config.num_classes = 3;
  return config;
}

std::shared_ptr<Yolov6> make_tiny_yolov6(const Yolov6Config& config, uint64_t seed) {
  auto model = std::make_shared<Yolov6>(config, seed);
  for (const ParameterRef& p : model->parameters())
    if (p.name.find("_preds") != std::string::npos && p.name.ends_with("weight"))
      p.variable.data().copy_from(random_tensor(p.variable.shape(), seed++, -0.5, 0.5));
  return model;
}

StepLoss sigmoid_loss(uint64_t seed) {
  return [seed](const HeadOutput& output, int64_t) {
    uint64_t map = seed;
    Variable sum;
    for (const auto* maps :
         {&output.cls_logits, &output.reg, &output.cls_logits_ab, &output.reg_ab, &output.reg_lrtb})
      for (const Variable& x : *maps) {
        const double bound = 1.0 / static_cast<double>(x.data().numel());
        const Tensor w = random_tensor(x.shape(), map++, -bound, bound);
        const Variable part = weighted_sum(sigmoid(x), w.to(x.data().device()));
        sum = sum.defined() ? add(sum, part) : part;
      }
    return sum;
  };
}

std::vector<double> train(const Yolov6& model, optim::Optimizer& optimizer, const StepLoss& loss,
                          const Curve& curve) {
  const Device device = model.parameters()[0].variable.data().device();
  std::vector<Tensor> losses;
  for (int64_t step = 0; step < curve.steps; ++step) {
    const Tensor images = random_tensor({curve.batch, curve.side, curve.side, 3},
                                        1000 + static_cast<uint64_t>(step), 0, 1);
    const Variable value = loss(model.forward(Variable(images.to(device))), step);
    if (curve.scaler) {
      curve.scaler->backward(value);
      curve.scaler->step(optimizer, {curve.lr, curve.lr, curve.lr}, curve.momentum);
    } else {
      backward(value);
      optimizer.step({curve.lr, curve.lr, curve.lr}, curve.momentum);
    }
    optimizer.zero_grad();
    losses.push_back(value.data());
  }
  std::vector<double> values;
  for (const Tensor& t : losses) values.push_back(t.item());
  return values;
}

}  // namespace sextant::test
