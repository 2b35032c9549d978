// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "optim/ema.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::optim;

namespace {

// The fixtures' variances are random numbers. Readers refuse negative ones, so these tensors go by
// another name here: "running_variance".
constexpr std::string_view kVariance = "running_var", kRest = "iance";
std::string renamed(const std::string& name) {
  return name.ends_with(kVariance) ? name + std::string(kRest) : name;
}
std::string in_fixture(const std::string& name) {
  const bool variance = name.ends_with(std::string(kVariance) + std::string(kRest));
  return variance ? name.substr(0, name.size() - kRest.size()) : name;
}

// input.step0.*: the model that the average starts as.
NamedTensors fixture_model(const SafeTensors& f) {
  NamedTensors model;
  for (const std::string& name : test::parts_of_names(f, "input.step0.", ""))
    model.emplace_back(renamed(name), f.at("input.step0." + name).clone());
  return model;
}

// An average that has had `updates` of them.
void start_at(ModelEma& ema, int64_t updates) {
  SafeTensors state;
  for (const auto& [name, tensor] : ema.state("")) state.add(name, tensor.clone());
  state.at("ema_updates").data<int64_t>()[0] = updates;
  ema.load_state(state, "");
}

void check_average(const SafeTensors& f) {
  const NamedTensors model = fixture_model(f);
  ModelEma ema(model, std::stod(f.meta("decay")), std::stod(f.meta("tau")));
  start_at(ema, std::stoll(f.meta("updates_start")));
  const std::vector<double> at = test::meta_numbers(f, "decay_table_x");
  const Tensor& table = f.at("output.decay_table");
  REQUIRE(table.numel() == std::ssize(at));
  for (size_t i = 0; i < at.size(); ++i)
    CHECK(ema.decay_at(static_cast<int64_t>(at[i])) ==
          Approx(table.data<double>()[i]).epsilon(1e-14));
  const Tensor& decay = f.at("output.decay");
  double worst = 0;
  int64_t averaged = 0;
  for (const auto& [name, tensor] : model) averaged += tensor.dtype() == DType::kF32;
  CHECK(std::ssize(ema.tensors()) == averaged);  // not the counter
  for (int64_t step = 1; step <= decay.numel(); ++step) {
    const std::string tag = "step" + std::to_string(step) + ".";
    for (const auto& [key, tensor] : model)
      tensor.copy_from(f.at("input.model." + tag + in_fixture(key)));
    ema.update();
    CHECK(ema.decay_at(ema.updates()) == Approx(decay.data<double>()[step - 1]).epsilon(1e-14));
    for (const auto& [key, tensor] : ema.tensors())
      worst = std::max(worst,
                       test::max_difference(tensor, f.at("output.ema." + tag + in_fixture(key))));
  }
  INFO("max difference " << worst);
  CHECK(decay.numel() > 0);
  CHECK(worst < 5e-7);
}

}  // namespace

TEST_CASE("the moving average agrees with the official one") {
  for (const std::string& name : test::fixture_names("optim/ema_float")) {
    CAPTURE(name);
    check_average(*test::fixture(name));
  }
}

TEST_CASE("the moving average, by hand") {
  const Tensor weight = Tensor::full({3}, 1.0f);
  const Tensor counter = Tensor::zeros({1}, DType::kI64);
  ModelEma ema({{"w", weight}, {"num_batches_tracked", counter}}, 0.5, 10.0);
  REQUIRE(ema.tensors().size() == 1);
  double expected = 1.0;
  for (int n = 1; n <= 5; ++n) {
    for (float& v : weight.span<float>()) v += 1.0f;
    ema.update();
    const double d = 0.5 * (1 - std::exp(-n / 10.0));
    expected = d * expected + (1 - d) * weight.f32()[0];
  }
  CHECK(ema.updates() == 5);
  CHECK(ema.tensors()[0].second.f32()[2] == Approx(expected).epsilon(1e-6));
  {
    EmaScope scope(ema);
    CHECK(weight.f32()[1] == Approx(expected).epsilon(1e-6));
    CHECK(ema.tensors()[0].second.f32()[1] == 6.0f);
  }
  CHECK(weight.f32()[1] == 6.0f);
}

TEST_CASE("the average of a constant stays that constant") {
  // d * ema + (1 - d) * model in f32 would drift to 0.99983 of it.
  const Tensor weight = Tensor::full({1}, 0.7f);
  ModelEma ema({{"w", weight}}, 0.9999, 1.0);
  for (int n = 0; n < 100000; ++n) ema.update();
  CHECK(ema.tensors()[0].second.f32()[0] == 0.7f);
}

TEST_CASE("the moving average continues bit-exactly from its state") {
  const auto model = [](uint64_t seed) -> NamedTensors {
    return {{"w", test::random_tensor({40000}, seed)},
            {"bn.running_var", test::random_tensor({17}, seed + 1, 0.0, 1.0)}};
  };
  const auto move = [](const NamedTensors& m, uint64_t seed) {
    for (const auto& [name, tensor] : m) {
      tensor.copy_from(test::random_tensor(tensor.shape(), seed, 0.0, 1.0));
    }
  };
  const NamedTensors one = model(1);
  const NamedTensors two = model(2);
  ModelEma first(one);
  for (uint64_t s = 0; s < 3; ++s) {
    move(one, s);
    first.update();
  }
  SafeTensors file;
  file.path = "last.safetensors";
  for (const auto& [name, tensor] : first.state("ema.")) file.add(name, tensor.clone());
  ModelEma second(two);
  second.load_state(file, "ema.");
  CHECK(second.updates() == 3);
  for (uint64_t s = 3; s < 6; ++s) {
    move(one, s);
    move(two, s);
    first.update();
    second.update();
  }
  for (size_t i = 0; i < 2; ++i) {
    CHECK(test::max_difference(first.tensors()[i].second, second.tensors()[i].second) == 0.0);
  }
  ModelEma other({{"v", Tensor::zeros({1})}});
  CHECK(test::error_of([&] { other.load_state(file, "ema."); }).find("ema.v") != std::string::npos);
}
