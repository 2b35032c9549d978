// SPDX-License-Identifier: Apache-2.0
#include "train_step.h"

#include <algorithm>

#include "../synthetic.h"
#include "core/allocator.h"
#include "core/median.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "layers/functional.h"
#include "models/loss/detection_loss.h"
#include "models/yolov6.h"
#include "optim/ema.h"
#include "optim/sgd.h"
#include "peak.h"

namespace sextant::bench {

Json train_step(const StepOptions& o) {
  Yolov6Config config;
  config.num_classes = o.classes;
  config.training_mode = o.mode;
  Yolov6 model(config, 1);
  std::vector<optim::NamedParameter> parameters;
  for (const auto& p : model.parameters())
    parameters.push_back(optim::named_parameter(p.name, p.variable));
  optim::NamedTensors state;
  for (const auto& s : model.state()) state.emplace_back(s.name, s.tensor);
  optim::Sgd sgd(parameters, {5e-4, true});
  optim::ModelEma ema(state);
  const DetectionLoss loss(config.loss());
  Rng rng(3);
  const Tensor images(Shape{o.batch, o.image_size, o.image_size, 3}, DType::kU8);
  for (auto& v : images.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  const Tensor targets = random_targets(o.batch, o.classes, rng);
  std::vector<double> forward, losses, back, update, total;
  for (int r = -2; r < o.runs; ++r) {
    const double t0 = now();
    const HeadOutput head = model.forward(Variable(image_to_float(images)));
    const double t1 = now();
    const LossResult l = loss(head.cls_logits, head.reg, targets, o.image_size, o.image_size);
    const double t2 = now();
    backward(l.loss);
    const double t3 = now();
    sgd.step({1e-3, 1e-3, 1e-3}, 0.9);
    sgd.zero_grad();
    ema.update();
    const double t4 = now();
    if (r < 0) continue;
    forward.push_back(t1 - t0);
    losses.push_back(t2 - t1);
    back.push_back(t3 - t2);
    update.push_back(t4 - t3);
    total.push_back(t4 - t0);
  }
  return {{"what", "train_step"},
          {"mode", name_of(o.mode)},
          {"batch", o.batch},
          {"image_size", o.image_size},
          {"classes", o.classes},
          {"threads", num_threads()},
          {"forward_s", median(forward)},
          {"loss_s", median(losses)},
          {"backward_s", median(back)},
          {"update_s", median(update)},
          {"total_s", median(total)},
          {"total_min_s", *std::ranges::min_element(total)},
          {"peak_memory_mb", static_cast<double>(host_stats().peak_bytes) / 1e6}};
}

}  // namespace sextant::bench
