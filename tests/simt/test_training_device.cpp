// SPDX-License-Identifier: Apache-2.0
// A small YOLOv6 in training on the device, against the host: one pass with all gradients, a curve
// of ten steps, with the average of the weights and with loss scaling.
#include "layers/autocast.h"
#include "layers/functional.h"
#include "optim/ema.h"
#include "optim/sgd.h"
#include "simt/accelerator.h"
#include "simt/training_curve.h"
#include "simt/worst_difference.h"
#include "support/support.h"

namespace sextant::test {
namespace {

using namespace sextant::optim;

std::vector<NamedParameter> named(const Yolov6& model) {
  std::vector<NamedParameter> out;
  for (const ParameterRef& p : model.parameters())
    out.push_back(named_parameter(p.name, p.variable));
  return out;
}
NamedTensors state_of(const Yolov6& model) {
  NamedTensors out;
  for (const StateRef& s : model.state()) out.emplace_back(s.name, s.tensor);
  return out;
}

struct Pass {
  std::vector<std::pair<std::string, Tensor>> outputs, gradients;
  SafeTensors state;
};
Pass pass_on(Device device, const Yolov6Config& config) {
  const auto model = make_tiny_yolov6(config, 5);
  model->to(device);
  const Variable x(random_tensor({2, 64, 64, 3}, 7, 0, 1).to(device));
  const HeadOutput head = model->forward(x);
  Pass pass;
  for (size_t l = 0; l < head.reg.size(); ++l) {
    pass.outputs.emplace_back("cls " + std::to_string(l), head.cls_logits[l].data());
    pass.outputs.emplace_back("reg " + std::to_string(l), head.reg[l].data());
    if (!head.reg_ab.empty())
      pass.outputs.emplace_back("reg_ab " + std::to_string(l), head.reg_ab[l].data());
  }
  pass.outputs.emplace_back("decoded", model->head().decode(head).data());
  backward(sigmoid_loss(11)(head, 0));
  for (const ParameterRef& p : model->parameters())
    if (p.variable.grad().defined()) pass.gradients.emplace_back(p.name, p.variable.grad());
  for (auto* list : {&pass.outputs, &pass.gradients})
    for (auto& [name, t] : *list) t = t.to(Device::kCpu);
  model->save_state(pass.state);
  return pass;
}

TEST_CASE("device: a YOLOv6 forward and backward in training mode as on the host") {
  const TestDevice device;
  if (!device.usable()) return;
  const Yolov6Config config = tiny_yolov6();
  const Pass host = pass_on(Device::kCpu, config), there = pass_on(Device::kCuda, config);
  CHECK(there.gradients.size() > 150);
  CHECK(worst_difference(there.outputs, host.outputs, 1e-5) < 1e-4);
  CHECK(worst_difference(there.state.tensors, host.state.tensors, 1e-5) < 1e-4);
  CHECK(worst_difference(there.gradients, host.gradients, 1e-5) < 1e-3);
}

TEST_CASE("device: the anchor-aided head and DFL distances as on the host") {
  const TestDevice device;
  if (!device.usable()) return;
  HeadConfig config;
  config.in_channels = {8, 16};
  config.num_classes = 3;
  config.reg_max = 4;
  config.strides = {8, 16};
  config.anchors = {{10, 13, 19, 19, 33, 23}, {30, 61, 59, 59, 59, 119}};
  const auto pass = [&](Device where) {
    Rng same(1);
    EffiDeHead head(config, same);
    for (const ParameterRef& p : head.parameters())
      p.variable.data().copy_from(random_tensor(p.variable.shape(), 3, -0.5, 0.5));
    head.to(where);
    const std::vector<Variable> x{Variable(random_tensor({2, 4, 4, 8}, 1).to(where), true),
                                  Variable(random_tensor({2, 2, 2, 16}, 2).to(where), true)};
    const HeadOutput out = head.forward(x);
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (size_t l = 0; l < 2; ++l)
      tensors.emplace_back("boxes", out.reg_ab[l].data().to(Device::kCpu));
    const Variable rows = head.decode(out);
    tensors.emplace_back("rows", rows.data().to(Device::kCpu));
    Variable loss = sigmoid_loss(11)(out, 0);
    const double bound = 1.0 / static_cast<double>(rows.data().numel());
    loss = add(loss, weighted_sum(rows, random_tensor(rows.shape(), 12, -bound, bound).to(where)));
    backward(loss);
    for (const Variable& v : x) tensors.emplace_back("dx", v.grad().to(Device::kCpu));
    return tensors;
  };
  CHECK(worst_difference(pass(Device::kCuda), pass(Device::kCpu), 1e-5) < 1e-4);
}

// Gradients of one pass under autocast, the loss scaled and the scale taken out again. The loss,
// too.
struct MixedPass {
  double loss = 0;
  std::vector<std::pair<std::string, Tensor>> gradients;
};
MixedPass mixed_pass(DType type, float scale) {
  const auto model = make_tiny_yolov6(tiny_yolov6(), 5);
  model->to(Device::kCuda);
  const Variable x(random_tensor({2, 64, 64, 3}, 7, 0, 1).to(Device::kCuda));
  Variable loss;
  {
    const Autocast autocast(type);
    const HeadOutput head = model->forward(x);
    for (const Variable& map : head.cls_logits) REQUIRE(map.data().dtype() == DType::kF32);
    loss = sigmoid_loss(11)(head, 0);
  }
  backward({{loss, Tensor::full({1}, scale, Device::kCuda)}});
  MixedPass pass{loss.data().item(), {}};
  for (const ParameterRef& p : model->parameters()) {
    if (!p.variable.grad().defined()) continue;
    REQUIRE(p.variable.grad().dtype() == DType::kF32);
    const Tensor g = p.variable.grad().to(Device::kCpu);
    for (float& v : g.span<float>()) v /= scale;
    pass.gradients.emplace_back(p.name, g);
  }
  return pass;
}
// |a - b| / |b| over all gradients of the head together. Further back each batch-norm over a few
// pixels and each ReLU that flips makes more of a rounding: in the backbone of so small a model
// gradients of two precisions have little in common.
double gradient_distance(const MixedPass& a, const MixedPass& b) {
  REQUIRE(a.gradients.size() == b.gradients.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < b.gradients.size(); ++i) {
    REQUIRE(a.gradients[i].first == b.gradients[i].first);
    if (!b.gradients[i].first.starts_with("detect.")) continue;
    for (int64_t k = 0; k < b.gradients[i].second.numel(); ++k) {
      const double x = a.gradients[i].second.f32()[k], y = b.gradients[i].second.f32()[k];
      difference += (x - y) * (x - y);
      size += y * y;
    }
  }
  return std::sqrt(difference / size);
}

TEST_CASE("device: mixed precision is near f32") {
  const TestDevice device;
  if (!device.usable()) return;
  const MixedPass f32 = mixed_pass(DType::kF32, 1.0f), bf16 = mixed_pass(DType::kBF16, 1.0f),
                  f16 = mixed_pass(DType::kF16, 65536.0f);
  const double distances[] = {gradient_distance(f16, f32), gradient_distance(bf16, f32)};
  INFO("loss f32 " << f32.loss << ", f16 " << f16.loss << ", bf16 " << bf16.loss
                   << "; gradients of the head f16 " << distances[0] << ", bf16 " << distances[1]);
  // The loss is a sum of both signs: of terms of about 0.1.
  CHECK(std::abs(f16.loss - f32.loss) < 0.002);
  CHECK(std::abs(bf16.loss - f32.loss) < 0.02);
  CHECK(distances[0] < 0.1);  // 0.05 on the runner
  CHECK(distances[1] < 0.5);  // 0.33: three bits fewer
  CHECK(distances[0] < 0.5 * distances[1]);
}

#if defined(SEXTANT_SIMT)
constexpr int64_t kSteps = 6;  // each takes seconds there
#else
constexpr int64_t kSteps = 10;
#endif

TEST_CASE("device: steps of training as on the host, average of the weights too") {
  const auto curve_on = [](Device device, SafeTensors& averages, bool scaled) {
    // One convolution a block and the RepPAN neck: a third of the time that YOLOv6-N takes here.
    Yolov6Config config = tiny_yolov6("yolov6n_opt");
    config.training_mode = TrainingMode::kRepOpt;
    const auto model = make_tiny_yolov6(config, 5);
    model->to(device);
    Sgd sgd(named(*model), {.weight_decay = 5e-4});
    ModelEma ema(state_of(*model), 0.99, 5.0);
    sgd.average_into(ema);
    GradScaler scaler(device, {.scale = 1024.0f, .interval = 4});
    Curve curve{.steps = kSteps, .lr = 0.001};
    curve.scaler = scaled ? &scaler : nullptr;
    const std::vector<double> losses = train(*model, sgd, sigmoid_loss(11), curve);
    for (const auto& [name, t] : ema.state("")) averages.add(name, t.to(Device::kCpu));
    return losses;
  };
  const TestDevice device;
  if (!device.usable()) return;
  SafeTensors host_average, average, scaled_average;
  const std::vector<double> host = curve_on(Device::kCpu, host_average, false),
                            there = curve_on(Device::kCuda, average, false),
                            scaled = curve_on(Device::kCpu, scaled_average, true);
  const auto distance = [&](const std::vector<double>& curve) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < host.size(); ++i) {
      worst = std::max(worst, std::abs(curve[i] - host[i]));
      largest = std::max(largest, std::abs(host[i]));
    }
    return worst / largest;
  };
  CHECK(host.back() < host.front());
  INFO("first loss " << host.front() << ", last " << host.back());
  CHECK(distance(there) < 1e-4);
  CHECK(worst_difference(average.tensors, host_average.tensors, 1e-5) < 1e-3);
  CHECK(distance(scaled) < 1e-4);
}

}  // namespace
}  // namespace sextant::test
