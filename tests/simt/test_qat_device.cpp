// SPDX-License-Identifier: Apache-2.0
// A step of quantization-aware training on the device as on the host: losses, all gradients, the
// optimizer, scales.
#include <cmath>

#include "deploy/networks.h"
#include "layers/distill.h"
#include "layers/functional.h"
#include "models/loss/detection_loss.h"
#include "optim/sgd.h"
#include "quant/training/distillation_teacher.h"
#include "quant/training/trainable_graph.h"
#include "simt/accelerator.h"
#include "simt/training_curve.h"
#include "simt/worst_difference.h"

namespace sextant::test {
namespace {

using namespace sextant::deploy;
using namespace sextant::quant;

constexpr int64_t kHeight = 32, kWidth = 64;

// Everything that YOLOv6 deploys, with few channels.
Graph fused_yolov6() {
  Yolov6 model(sextant::test::tiny_yolov6(), 41);
  randomize(model, 42);
  model.train(false);
  return fuse(traced(model, {1, kHeight, kWidth, 3}));
}

struct QatStep {
  std::vector<double> losses;  // channel-wise, scores, detection
  std::vector<std::pair<std::string, Tensor>> maps, gradients;
  Graph after;
  int64_t waits = 0;
};

QatStep step_on(Device where, const Graph& fused, const Graph& start, const Tensor& images,
                TrainableOptions options, const std::function<int64_t()>& waits) {
  options.device = where;
  options.features = neck_outputs(fused);
  TrainableGraph student(start, options);
  DistillationTeacher teacher(fused, options.features, where);
  std::vector<optim::NamedParameter> parameters;
  for (const ParameterRef& p : student.parameters())
    parameters.push_back({p.name, p.variable, optim::ParameterKind::kBias, {}});
  optim::Sgd sgd(parameters, {});
  LossConfig config;
  config.num_classes = 3;
  config.use_dfl = false;
  config.reg_max = 0;
  const DetectionLoss detection(config);
  const Tensor targets = Tensor::from<float>(
      {3, 6},
      {0, 1, 0.4f, 0.5f, 0.5f, 0.4f, 1, 0, 0.6f, 0.4f, 0.3f, 0.6f, 1, 2, 0.3f, 0.6f, 0.5f, 0.5f});
  const Tensor there = images.to(where);

  const int64_t before = waits();
  const auto out = student.forward(there);
  const auto taught = teacher.run(there);
  std::vector<Variable> losses;
  for (size_t f = 0; f < out.features.size(); ++f)
    losses.push_back(channel_wise_distillation(out.features[f], taught.features[f]));
  losses.push_back(score_distillation(out.cls_logits, taught.cls_logits));
  losses.push_back(detection(out.cls_logits, out.reg, targets, kHeight, kWidth).loss);
  Variable total = losses[0];
  for (size_t i = 1; i < losses.size(); ++i) total = add(total, losses[i]);
  backward(total);
  QatStep step;
  for (const ParameterRef& p : student.parameters()) {
    REQUIRE(p.variable.grad().defined());
    step.gradients.emplace_back(p.name, p.variable.grad());
  }
  sgd.step({0.01, 0.01, 0.01}, 0.9);
  student.update_scales();
  step.waits = waits() - before;

  for (const Variable& loss : losses) step.losses.push_back(loss.data().item());
  for (auto& [name, g] : step.gradients) g = g.to(Device::kCpu);
  for (size_t l = 0; l < out.reg.size(); ++l) {
    step.maps.emplace_back("cls", out.cls_logits[l].data().to(Device::kCpu));
    step.maps.emplace_back("reg", out.reg[l].data().to(Device::kCpu));
  }
  step.after = student.graph();
  return step;
}

void check_same(const Graph& there, const Graph& host, bool scales_equal) {
  for (size_t n = 0; n < host.nodes.size(); ++n) {
    const Node &a = there.nodes[n], &b = host.nodes[n];
    CAPTURE(b.name);
    if (!b.has_weight()) continue;
    CHECK(relative_difference(a.weight, b.weight) < 1e-5);
    if (b.bias.defined()) CHECK(relative_difference(a.bias, b.bias) < 1e-5);
    REQUIRE(a.weight_scale.size() == b.weight_scale.size());
    if (scales_equal) CHECK(a.weight_scale == b.weight_scale);
    for (size_t o = 0; o < b.weight_scale.size(); ++o)
      CHECK(std::abs(a.weight_scale[o] - b.weight_scale[o]) <= 1e-4f * b.weight_scale[o]);
  }
  for (size_t t = 0; t < host.tensors.size(); ++t) {
    CAPTURE(host.tensors[t].name);
    CHECK(std::abs(there.tensors[t].amax - host.tensors[t].amax) <=
          (scales_equal ? 0.0f : 1e-5f * host.tensors[t].amax));
  }
}

TEST_CASE("device: a step of quantization-aware training as on the host") {
  const TestDevice device;
  if (!device.usable()) return;
  const bool learned = GENERATE(false, true);
  const WeightRanges weights =
      learned ? WeightRanges::kLearned : GENERATE(WeightRanges::kFrozen, WeightRanges::kFollow);
  const bool some_float = learned ? false : GENERATE(false, true);
  CAPTURE(learned, static_cast<int>(weights), some_float);
  const Tensor images = random_images({2, kHeight, kWidth, 3}, 5);
  const Graph fused = fused_yolov6();
  Graph start = with_ranges(fused, images, 0.7f);
  if (some_float)
    for (Node& node : start.nodes)
      if (node.name.find("_preds") != std::string::npos || node.name.find("Rep_p4") == 5)
        node.precision = Precision::kFloat32;
  const TrainableOptions options{
      .learn_activation_ranges = learned, .weights = weights, .features = {}};
  const auto run = [&](Device where) {
    return step_on(where, fused, start, images, options, [&] { return device.host_waits(); });
  };
  const QatStep host = run(Device::kCpu), there = run(Device::kCuda);
  REQUIRE(there.losses.size() == host.losses.size());
  for (size_t i = 0; i < host.losses.size(); ++i) {
    CAPTURE(i, host.losses[i], there.losses[i]);
    CHECK(host.losses[i] > 0);
    CHECK(std::abs(there.losses[i] - host.losses[i]) < 1e-5 * host.losses[i]);
  }
  // The same integers; those behind layers in float may be a level apart.
  CHECK(worst_difference(there.maps, host.maps, 1e-3) <= (some_float ? 1e-2 : 1e-5));
  CHECK(worst_difference(there.gradients, host.gradients, 1e-3) < (some_float ? 2e-2 : 1e-4));
  check_same(there.after, host.after, !learned && weights == WeightRanges::kFrozen);
  // Frozen: it does not wait at all. Else once for what the scales are, learned ranges once more.
  CHECK(there.waits <= (learned ? 2 : weights == WeightRanges::kFollow ? 1 : 0));
}

TEST_CASE("device: learned scales are kept positive, ranges are read again") {
  const TestDevice device;
  if (!device.usable()) return;
  const Tensor images = random_images({1, kHeight, kWidth, 3}, 5);
  const Graph start = with_ranges(fused_yolov6(), images);
  TrainableGraph student(start, {.learn_activation_ranges = true,
                                 .weights = WeightRanges::kLearned,
                                 .features = {},
                                 .device = Device::kCuda});
  const auto set = [&](const char* which, float value) {
    for (const ParameterRef& p : student.parameters())
      if (p.name.ends_with(which))
        p.variable.data().copy_from(Tensor::full(p.variable.shape(), value));
  };
  set(".amax", -1);
  set("_scale", -1);
  student.update_scales();
  const Graph low = student.graph();
  for (size_t t = 0; t < start.tensors.size(); ++t) {
    if (!start.tensors[t].has_range() || start.tensors[t].group == start.tensors[0].group) continue;
    CAPTURE(start.tensors[t].name);
    CHECK(low.tensors[t].amax == Approx(1e-3 * start.tensors[t].amax));
  }
  for (size_t n = 0; n < start.nodes.size(); ++n)
    for (size_t o = 0; o < start.nodes[n].weight_scale.size(); ++o)
      CHECK(low.nodes[n].weight_scale[o] == Approx(1e-3 * start.nodes[n].weight_scale[o]));
  // Ranges that come from elsewhere count after read_ranges().
  const NoGrad guard;
  set("_scale", 0.01f);
  const auto forward = [&, there = images.to(Device::kCuda)] {
    return student.forward(there).cls_logits[0].data().to(Device::kCpu);
  };
  const Tensor narrow = forward();
  set(".amax", 0.5f);
  CHECK(max_difference(forward(), narrow) == 0);
  student.read_ranges();
  CHECK(max_difference(forward(), narrow) > 0);
}

}  // namespace
}  // namespace sextant::test
