// SPDX-License-Identifier: Apache-2.0
// The optimizers, the average of the weights and loss scaling on the device against the host.
#include "optim/adam.h"
#include "optim/ema.h"
#include "optim/grad_scaler.h"
#include "optim/sgd.h"
#include "simt/accelerator.h"
#include "support/support.h"

namespace sextant::test {
namespace {

using namespace sextant::optim;

// Parameters of all kinds, one with a multiplier, one that is frozen, and a running mean.
struct OptimizerProblem {
  std::vector<NamedParameter> parameters;
  NamedTensors model;  // parameters and the running mean

  explicit OptimizerProblem(Device device) {
    const auto add = [&](const std::string& name, Shape shape, uint64_t seed) {
      parameters.push_back(
          named_parameter(name, Variable(random_tensor(shape, seed).to(device), true)));
      model.emplace_back(name, parameters.back().variable.data());
    };
    add("a.conv.weight", {17, 3, 3, 70}, 1);
    add("a.bn.weight", {37}, 2);
    add("a.bn.bias", {37}, 3);
    add("a.alpha", {1}, 4);
    add("b.conv.weight", {8, 1, 1, 3}, 5);
    parameters.back().multiplier = random_tensor({8, 1, 1, 3}, 6, 0.2, 2.0);  // on the host
    model.emplace_back("a.bn.running_mean", random_tensor({37}, 7).to(device));
  }
  void set_gradients(uint64_t seed, float factor = 1.0f) const {
    for (const NamedParameter& p : parameters) {
      const Tensor g = random_tensor(p.variable.shape(), seed++);
      for (float& v : g.span<float>()) v *= factor;
      // The last one has none in the second step.
      p.variable.meta()->grad = seed == 25 ? Tensor() : g.to(p.variable.data().device());
    }
  }
  NamedTensors values() const {
    NamedTensors out;
    for (const auto& [name, t] : model) out.emplace_back(name, t.clone().to(Device::kCpu));
    return out;
  }
};

double worst_absolute_difference(const NamedTensors& a, const NamedTensors& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const Tensor x = a[i].second.to(Device::kCpu), y = b[i].second.to(Device::kCpu);
    if (x.dtype() == DType::kI64) {
      CHECK(*x.data<int64_t>() == *y.data<int64_t>());
      continue;
    }
    worst = std::max(worst, max_difference(x, y));
  }
  return worst;
}

using Make = std::function<std::unique_ptr<Optimizer>(const OptimizerProblem&)>;
const std::vector<std::pair<const char*, Make>> kOptimizers = {
    {"SGD",
     [](const OptimizerProblem& p) {
       return std::make_unique<Sgd>(p.parameters, SgdOptions{.weight_decay = 5e-4});
     }},
    {"AdamW", [](const OptimizerProblem& p) {
       return std::make_unique<Adam>(p.parameters,
                                     AdamOptions{.weight_decay = 1e-2, .decoupled = true});
     }}};
constexpr std::array<double, kGroups> kRates = {0.01, 0.02, 0.03};

TEST_CASE("device: three steps of each optimizer and the average as on the host") {
  const TestDevice device;
  if (!device.usable()) return;
  for (const auto& [name, make] : kOptimizers) {
    CAPTURE(name);
    const OptimizerProblem here(Device::kCpu), there(Device::kCuda);
    const auto host = make(here), on_device = make(there);
    ModelEma host_ema(here.model, 0.9, 3.0), ema(there.model, 0.9, 3.0);
    on_device->average_into(ema);
    for (uint64_t step = 0; step < 3; ++step) {
      here.set_gradients(10 + 10 * step);
      there.set_gradients(10 + 10 * step);
      host->step(kRates, 0.9);
      host_ema.update();
      on_device->step(kRates, 0.9);
      host->zero_grad();
      on_device->zero_grad();
    }
    CHECK(worst_absolute_difference(there.values(), here.values()) < 1e-6);
    CHECK(worst_absolute_difference(on_device->state("o."), host->state("o.")) < 1e-6);
    CHECK(worst_absolute_difference(ema.state("ema."), host_ema.state("ema.")) < 1e-6);

    const NamedTensors model = there.values();
    {
      const EmaScope scope(ema);
      CHECK(worst_absolute_difference(there.values(), host_ema.tensors()) < 1e-6);
    }
    CHECK(worst_absolute_difference(there.values(), model) == 0);
  }
}

TEST_CASE("device: a step with an overflow is skipped and the loss scale halved") {
  const TestDevice device;
  if (!device.usable()) return;
  for (const auto& [name, make] : kOptimizers) {
    CAPTURE(name);
    const OptimizerProblem plain(Device::kCpu), there(Device::kCuda);
    const auto reference = make(plain), optimizer = make(there);
    GradScaler scaler(Device::kCuda, {.scale = 1024.0f, .interval = 2});
    const auto good_step = [&](uint64_t seed, float scale) {
      plain.set_gradients(seed);
      there.set_gradients(seed, scale);
      reference->step(kRates, 0.9);
      scaler.step(*optimizer, kRates, 0.9);
      CHECK(worst_absolute_difference(there.values(), plain.values()) < 1e-6);
    };
    good_step(10, 1024.0f);
    CHECK(scaler.scale().item() == 1024);
    const NamedTensors before = there.values();
    there.set_gradients(50, 1024.0f);
    const Tensor grad = there.parameters[2].variable.grad().to(Device::kCpu);
    grad.f32()[36] = std::numeric_limits<float>::infinity();
    there.parameters[2].variable.meta()->grad = grad.to(Device::kCuda);
    scaler.step(*optimizer, kRates, 0.9);
    CHECK(worst_absolute_difference(there.values(), before) == 0);
    CHECK(worst_absolute_difference(optimizer->state(""), reference->state("")) < 1e-6);
    CHECK(scaler.scale().item() == 512);
    good_step(60, 512.0f);
    good_step(70, 512.0f);
    CHECK(scaler.scale().item() == 1024);  // two steps without an overflow
  }
}

TEST_CASE("device: optimizer, average and loss scale continue from their state") {
  const TestDevice device;
  if (!device.usable()) return;
  const TemporaryFolder folder;
  for (const auto& [name, make] : kOptimizers) {
    CAPTURE(name);
    const OptimizerProblem first(Device::kCuda), second(Device::kCuda);
    const auto one = make(first), two = make(second);
    ModelEma ema(first.model), other_ema(second.model);
    GradScaler scaler(Device::kCuda, {.scale = 64.0f, .interval = 3}),
        other_scaler(Device::kCuda, {.scale = 1.0f, .interval = 3});
    const auto step = [](const OptimizerProblem& p, Optimizer& o, ModelEma& e, GradScaler& s,
                         uint64_t seed) {
      p.set_gradients(seed);
      s.step(o, kRates, 0.9);
      e.update();
    };
    for (const uint64_t seed : {10, 30}) step(first, *one, ema, scaler, seed);
    SafeTensors file;
    for (const NamedTensors& list :
         {one->state("o."), ema.state("ema."), scaler.state("scaler."), first.model})
      for (const auto& [key, t] : list) file.add(key, t);
    save_safetensors(folder / "last.safetensors", file);
    const SafeTensors read = load_safetensors(folder / "last.safetensors");
    two->load_state(read, "o.");
    other_ema.load_state(read, "ema.");
    other_scaler.load_state(read, "scaler.");
    for (const auto& [key, t] : second.model) restore_tensor(read, key, t);
    for (const uint64_t seed : {40, 50}) {
      step(first, *one, ema, scaler, seed);
      step(second, *two, other_ema, other_scaler, seed);
    }
    CHECK(scaler.scale().item() == 128);
    CHECK(other_scaler.scale().item() == 128);
    CHECK(worst_absolute_difference(first.values(), second.values()) == 0);
    CHECK(worst_absolute_difference(ema.state(""), other_ema.state("")) == 0);
  }
}

TEST_CASE("device: an optimizer of parameters on two devices is refused") {
  const TestDevice device;
  if (!device.usable()) return;
  const std::vector<NamedParameter> parameters = {
      named_parameter("a.weight", Variable(Tensor::zeros({2}))),
      named_parameter("b.weight", Variable(Tensor::zeros({2}, DType::kF32, Device::kCuda)))};
  CHECK(error_of([&] { Sgd(parameters, {}); }) ==
        "optimizer: parameter 'b.weight' is on cuda, 'a.weight' on cpu, expected one device");
  CHECK(error_of([&] {
          Sgd({parameters[1]}, {})
              .average_into(*std::make_unique<ModelEma>(NamedTensors{{"w", Tensor::zeros({1})}}));
        }) == "optimizer: the average is on cpu, the parameters on cuda");
}

}  // namespace
}  // namespace sextant::test
