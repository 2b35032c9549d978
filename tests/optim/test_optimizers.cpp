// SPDX-License-Identifier: Apache-2.0
// SGD, Adam and AdamW against PyTorch's steps, resuming, grouping.
#include <cmath>
#include <map>

#include "core/parallel.h"
#include "optim/adam.h"
#include "optim/parameters.h"
#include "optim/sgd.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::optim;

namespace {

// A parameter that has a gradient: adds `grad` the way backward() leaves it.
void set_grad(const Variable& v, const Tensor& grad) { v.meta()->grad = grad; }

// Steps that the file has, at least one: output.step<n>, of a parameter where it names them.
int steps_of(const SafeTensors& f, const std::string& parameter = "") {
  const std::string rest = parameter.empty() ? "" : "." + parameter;
  int steps = 0;
  while (f.find("output.step" + std::to_string(steps + 1) + rest) != nullptr) ++steps;
  CHECK(steps > 0);
  return steps;
}

AdamOptions adam_options(const SafeTensors& f, const std::string& eps) {
  const std::vector<double> betas = test::meta_numbers(f, "betas");
  return {.weight_decay = std::stod(f.meta("weight_decay")),
          .beta1 = betas.at(0),
          .beta2 = betas.at(1),
          .eps = std::stod(f.meta(eps))};
}

double run_fixture(const SafeTensors& f, const std::vector<NamedParameter>& parameters,
                   Optimizer& optimizer, double lr, double momentum) {
  double worst = 0;
  const int steps = steps_of(f, parameters.at(0).name);
  for (int step = 1; step <= steps; ++step) {
    const std::string tag = "step" + std::to_string(step) + ".";
    for (const NamedParameter& p : parameters) {
      if (const Tensor* grad = f.find("input.grad." + tag + p.name)) set_grad(p.variable, *grad);
    }
    optimizer.step({lr, lr, lr}, momentum);
    optimizer.zero_grad();
    for (const NamedParameter& p : parameters) {
      const Tensor& expected = f.at("output." + tag + p.name);
      worst = std::max(worst, test::max_difference(p.variable.data(), expected));
      REQUIRE_FALSE(p.variable.grad().defined());
    }
  }
  return worst;
}

std::vector<NamedParameter> some_parameters(uint64_t seed) {
  return {named_parameter("a.conv.weight", Variable(test::random_tensor({33, 3, 3, 70}, seed))),
          named_parameter("a.bn.weight", Variable(test::random_tensor({37}, seed + 1))),
          named_parameter("a.bn.bias", Variable(test::random_tensor({37}, seed + 2))),
          named_parameter("a.alpha", Variable(test::random_tensor({1}, seed + 3)))};
}

void some_gradients(const std::vector<NamedParameter>& parameters, uint64_t seed) {
  for (const NamedParameter& p : parameters) {
    set_grad(p.variable, test::random_tensor(p.variable.shape(), seed++));
  }
}

}  // namespace

TEST_CASE("SGD takes the official implementation's steps") {
  SEXTANT_REQUIRE_FIXTURE(f, "optim/yolov6_sgd");
  const auto parameters = test::fixture_parameters(f);
  Sgd sgd(parameters, {.weight_decay = std::stod(f.meta("weight_decay")),
                       .nesterov = f.meta("nesterov") == "True"});
  const double worst =
      run_fixture(f, parameters, sgd, std::stod(f.meta("lr")), std::stod(f.meta("momentum")));
  INFO("max difference " << worst);
  CHECK(worst < 3e-7);
}

TEST_CASE("Adam takes the official implementation's steps") {
  SEXTANT_REQUIRE_FIXTURE(f, "optim/yolov6_adam");
  const auto parameters = test::fixture_parameters(f);
  Adam adam(parameters, adam_options(f, "adam_eps"));
  const double worst = run_fixture(f, parameters, adam, std::stod(f.meta("lr")), 0.5);
  INFO("max difference " << worst);
  CHECK(worst < 5e-7);
}

TEST_CASE("AdamW takes PyTorch's steps") {
  SEXTANT_REQUIRE_FIXTURE(f, "optim/adamw");
  const Variable p(f.at("input.param").clone(), true);
  AdamOptions options = adam_options(f, "eps");
  options.decoupled = true;
  Adam adam({{"p", p, ParameterKind::kWeight}}, options);
  const double lr = std::stod(f.meta("lr"));
  double worst = 0;
  const int steps = steps_of(f);
  for (int step = 1; step <= steps; ++step) {
    set_grad(p, f.at("input.grad.step" + std::to_string(step)));
    adam.step({lr, lr, lr}, 0);
    worst =
        std::max(worst, test::max_difference(p.data(), f.at("output.step" + std::to_string(step))));
  }
  INFO("max difference " << worst);
  CHECK(worst < 5e-7);
}

TEST_CASE("SGD follows its formula in double, group by group") {
  const bool nesterov = GENERATE(true, false);
  auto parameters = some_parameters(1);
  parameters[0].multiplier = test::random_tensor(parameters[0].variable.shape(), 8, 0.2, 3);
  const std::array<double, 3> lr{0.01, 0.02, 0.03};
  const double momentum = 0.9;
  std::vector<std::vector<double>> p(4), buffer(4);
  for (size_t i = 0; i < 4; ++i) {
    const auto values = parameters[i].variable.data().span<float>();
    p[i].assign(values.begin(), values.end());
    buffer[i].assign(values.size(), 0.0);
  }
  Sgd sgd(parameters, {.weight_decay = 0.05, .nesterov = nesterov});
  for (uint64_t step = 0; step < 4; ++step) {
    some_gradients(parameters, 100 + 10 * step);
    for (size_t i = 0; i < 3; ++i) {
      const auto group = static_cast<size_t>(parameters[i].kind);
      const double decay = parameters[i].kind == ParameterKind::kWeight ? 0.05 : 0.0;
      const float* grad = parameters[i].variable.grad().f32();
      for (size_t k = 0; k < p[i].size(); ++k) {
        const double factor = i == 0 ? parameters[0].multiplier.f32()[k] : 1.0;
        const double g = factor * grad[k] + decay * p[i][k];
        double& b = buffer[i][k];
        b = step == 0 ? g : momentum * b + g;
        p[i][k] -= lr[group] * (nesterov ? g + momentum * b : b);
      }
    }
    sgd.step(lr, momentum);
  }
  double worst = 0;
  for (size_t i = 0; i < 4; ++i) {
    for (size_t k = 0; k < p[i].size(); ++k) {
      worst = std::max(worst, std::abs(p[i][k] - parameters[i].variable.f32()[k]));
    }
  }
  INFO("max difference " << worst);
  CHECK(worst < 1e-6);
}

TEST_CASE("AdamW and Adam follow their formulas in double") {
  const bool decoupled = GENERATE(true, false);
  const bool multiplied = GENERATE(true, false);
  auto parameters = some_parameters(5);
  const Tensor factors = test::random_tensor(parameters[0].variable.shape(), 8, 0.2, 3);
  if (multiplied) parameters[0].multiplier = factors;
  const Variable& w = parameters[0].variable;
  const auto values = w.data().span<float>();
  std::vector<double> p(values.begin(), values.end()), m(p.size(), 0.0), v(p.size(), 0.0);
  Adam adam(parameters, {.weight_decay = 0.1, .decoupled = decoupled});
  const double lr = 1e-2;
  for (int t = 1; t <= 4; ++t) {
    some_gradients(parameters, 500 + static_cast<uint64_t>(t));
    for (size_t k = 0; k < p.size(); ++k) {
      const double factor = multiplied ? factors.f32()[k] : 1.0;
      double g = factor * w.grad().f32()[k];
      if (decoupled) {
        p[k] *= 1 - lr * 0.1;
      } else {
        g += 0.1 * p[k];
      }
      m[k] = 0.9 * m[k] + 0.1 * g;
      v[k] = 0.999 * v[k] + 0.001 * g * g;
      p[k] -= factor * lr * (m[k] / (1 - std::pow(0.9, t))) /
              (std::sqrt(v[k] / (1 - std::pow(0.999, t))) + 1e-8);
    }
    adam.step({1.0, lr, 1.0}, 0);
  }
  double worst = 0;
  for (size_t k = 0; k < p.size(); ++k) worst = std::max(worst, std::abs(p[k] - w.f32()[k]));
  INFO("max difference " << worst);
  CHECK(worst < 1e-6);
}

TEST_CASE("an optimizer continues bit-exactly from its state") {
  const bool use_adam = GENERATE(false, true);
  const auto make = [&](const std::vector<NamedParameter>& p) -> std::unique_ptr<Optimizer> {
    if (use_adam) return std::make_unique<Adam>(p, AdamOptions{.weight_decay = 0.01});
    return std::make_unique<Sgd>(p, SgdOptions{.weight_decay = 0.01});
  };
  const std::array<double, 3> lr{1e-2, 2e-2, 3e-2};
  const auto one = some_parameters(1);
  const auto first = make(one);
  for (uint64_t s = 0; s < 3; ++s) {
    some_gradients(one, 10 * s);
    first->step(lr, 0.9);
  }
  test::TemporaryFolder folder;
  SafeTensors file;
  file.tensors = first->state("optimizer.");
  for (const NamedParameter& p : one) file.add(p.name, p.variable.data());
  save_safetensors(folder / "state.safetensors", file);

  const SafeTensors loaded = load_safetensors(folder / "state.safetensors");
  const auto two = some_parameters(77);
  const auto second = make(two);
  second->load_state(loaded, "optimizer.");
  for (const NamedParameter& p : two) restore_tensor(loaded, p.name, p.variable.data());
  for (uint64_t s = 3; s < 6; ++s) {
    some_gradients(one, 10 * s);
    some_gradients(two, 10 * s);
    first->step(lr, 0.9);
    second->step(lr, 0.9);
  }
  for (size_t i = 0; i < one.size(); ++i) {
    CHECK(test::max_difference(one[i].variable.data(), two[i].variable.data()) == 0.0);
  }
}

TEST_CASE("an update does not depend on the number of threads") {
  const int before = num_threads();
  std::vector<Tensor> results;
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    // Enough pieces for several threads.
    const Variable w(test::random_tensor({1 << 19}, 3));
    Sgd sgd({{"w", w, ParameterKind::kWeight}}, {.weight_decay = 0.1});
    for (uint64_t s = 0; s < 2; ++s) {
      set_grad(w, test::random_tensor({1 << 19}, 9 + s));
      sgd.step({0.1, 0.1, 0.1}, 0.9);
    }
    results.push_back(w.data());
  }
  set_num_threads(before);
  CHECK(test::max_difference(results[0], results[1]) == 0.0);
}

TEST_CASE("parameters without a gradient and frozen ones do not move") {
  const auto parameters = some_parameters(1);
  const Tensor alpha = parameters[3].variable.data().clone();
  const Tensor gamma = parameters[1].variable.data().clone();
  Sgd sgd(parameters, {.weight_decay = 0.5});
  some_gradients(parameters, 3);
  parameters[1].variable.clear_grad();
  sgd.step({0.1, 0.1, 0.1}, 0.9);
  CHECK(sgd.parameters().size() == 3);
  CHECK(test::max_difference(parameters[3].variable.data(), alpha) == 0.0);
  CHECK(test::max_difference(parameters[1].variable.data(), gamma) == 0.0);
}

TEST_CASE("the optimizer refuses invalid options and parameters") {
  const Variable v(Tensor::zeros({4}));
  CHECK(test::error_of([&] {
          Sgd({{"w", v}, {"w", Variable(Tensor::zeros({2}))}}, {});
        }) == "optimizer: duplicate parameter 'w'");
  CHECK(test::error_of([&] {
          Sgd({{"w", v}, {"u", v}}, {});
        }) == "optimizer: parameter 'u' is the same Variable as another");
  CHECK(test::error_of([&] {
          Sgd({{"w", v, ParameterKind::kWeight, Tensor::zeros({2, 2})}}, {});
        }) == "optimizer: multiplier of 'w' is F32 [2,2], the parameter F32 [4]");
  Sgd sgd({{"w", v}}, {});
  set_grad(v, Tensor::zeros({3}));
  CHECK(test::error_of([&] {
          sgd.step({1, 1, 1}, 0);
        }) == "optimizer: gradient of 'w' is F32 [3], the parameter F32 [4]");
  SafeTensors file;
  file.path = "run/last.safetensors";
  file.add("momentum_buffer.w", Tensor::zeros({5}));
  CHECK(test::error_of([&] { sgd.load_state(file, ""); }) ==
        "run/last.safetensors: tensor 'momentum_buffer.w' is F32 [5], expected F32 [4]");
}
