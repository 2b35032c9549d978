// SPDX-License-Identifier: Apache-2.0
// Loss scaling and the average in the optimizer's pass, on the host.
#include "optim/adam.h"
#include "optim/ema.h"
#include "optim/grad_scaler.h"
#include "optim/sgd.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::optim;

namespace {

std::vector<NamedParameter> scaler_parameters() {
  return {named_parameter("a.conv.weight", Variable(test::random_tensor({33, 3, 3, 70}, 1), true)),
          named_parameter("a.bn.weight", Variable(test::random_tensor({37}, 2), true)),
          named_parameter("a.alpha", Variable(test::random_tensor({1}, 3), true))};
}
void set_gradients(const std::vector<NamedParameter>& parameters, uint64_t seed, float factor) {
  for (const NamedParameter& p : parameters) {
    const Tensor g = test::random_tensor(p.variable.shape(), seed++);
    for (float& v : g.span<float>()) v *= factor;
    p.variable.meta()->grad = g;
  }
}
double distance(const std::vector<NamedParameter>& a, const std::vector<NamedParameter>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, test::max_difference(a[i].variable.data(), b[i].variable.data()));
  return worst;
}

}  // namespace

TEST_CASE("a scaled loss gives scaled gradients, and the same steps") {
  const auto plain = scaler_parameters(), scaled = scaler_parameters();
  Sgd reference(plain, {.weight_decay = 1e-3}), optimizer(scaled, {.weight_decay = 1e-3});
  GradScaler scaler(Device::kCpu, {.scale = 4096.0f, .interval = 2});
  const Variable loss(Tensor::full({1}, 0.5f), true);
  scaler.backward(loss);
  CHECK(loss.grad().item() == 4096);
  float scale = 4096.0f;
  for (uint64_t step = 0; step < 4; ++step) {
    set_gradients(plain, 10 * step, 1.0f);
    set_gradients(scaled, 10 * step, scale);
    reference.step({0.1, 0.1, 0.1}, 0.9);
    scaler.step(optimizer, {0.1, 0.1, 0.1}, 0.9);
    CHECK(distance(plain, scaled) < 1e-6);
    if (step % 2 == 1) scale *= 2;  // every two steps
    CHECK(scaler.scale().item() == scale);
  }
}

TEST_CASE("an overflow skips the step, and training continues") {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    const auto parameters = scaler_parameters(), before = scaler_parameters();
    Adam adam(parameters, {.decoupled = true});
    GradScaler scaler(Device::kCpu, {.scale = 8.0f});
    set_gradients(parameters, 1, 8.0f);
    parameters[1].variable.grad().f32()[5] = bad;
    scaler.step(adam, {0.1, 0.1, 0.1}, 0.9);
    CHECK(distance(parameters, before) == 0);
    CHECK(scaler.scale().item() == 4);
    for (const auto& [name, t] : adam.state(""))
      if (t.dtype() == DType::kI64) CHECK(*t.data<int64_t>() == 0);
    set_gradients(parameters, 1, 4.0f);
    scaler.step(adam, {0.1, 0.1, 0.1}, 0.9);
    CHECK(distance(parameters, before) > 0.05);
    CHECK(scaler.scale().item() == 4);
  }
}

TEST_CASE("the scale continues from its state, and invalid states are refused") {
  GradScaler scaler(Device::kCpu, {.scale = 8.0f, .interval = 2});
  Sgd sgd(scaler_parameters(), {});
  scaler.step(sgd, {0, 0, 0}, 0);
  SafeTensors file;
  for (const auto& [name, t] : scaler.state("scaler.")) file.add(name, t.clone());
  GradScaler other(Device::kCpu, {.scale = 1.0f, .interval = 2});
  other.load_state(file, "scaler.");
  other.step(sgd, {0, 0, 0}, 0);
  CHECK(other.scale().item() == 16);
  CHECK(test::error_of([&] { other.load_state({}, "x."); }).find("x.scale") != std::string::npos);
  CHECK(test::error_of([] { GradScaler(Device::kCpu, {.scale = 0.0f}); }).find("scale 0") !=
        std::string::npos);
}

TEST_CASE("an average in the optimizer's pass equals one after it, bit for bit") {
  const auto one = scaler_parameters(), two = scaler_parameters();
  const auto model = [](const std::vector<NamedParameter>& parameters) {
    NamedTensors out;
    for (const NamedParameter& p : parameters) out.emplace_back(p.name, p.variable.data());
    out.emplace_back("a.bn.running_mean", test::random_tensor({37}, 9));
    return out;
  };
  const NamedTensors first = model(one), second = model(two);
  ModelEma apart(first, 0.9, 2.0), together(second, 0.9, 2.0);
  Sgd sgd(one, {}), joined(two, {});
  joined.average_into(together);
  CHECK(test::error_of([&] { joined.average_into(together); }) ==
        "optimizer: already has a moving average");
  for (uint64_t step = 0; step < 3; ++step) {
    set_gradients(one, step, 1.0f);
    set_gradients(two, step, 1.0f);
    for (const NamedTensors* m : {&first, &second}) m->back().second.f32()[step] += 1.0f;
    sgd.step({0.1, 0.2, 0.3}, 0.9);
    apart.update();
    joined.step({0.1, 0.2, 0.3}, 0.9);
  }
  CHECK(together.updates() == 3);
  CHECK(distance(one, two) == 0);
  for (size_t i = 0; i < first.size(); ++i)
    CHECK(test::max_difference(apart.tensors()[i].second, together.tensors()[i].second) == 0);
  CHECK(test::max_difference(together.tensors()[0].second, second[0].second) > 0);
}
