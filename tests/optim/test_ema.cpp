#include <cmath>

#include "optim/ema.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::optim;

TEST_CASE("the moving average agrees with the official one") {
  const std::string name = GENERATE("optim/ema_float32", "optim/ema_float64");
  SEXTANT_REQUIRE_FIXTURE(f, name);
  const std::string prefix = "input.step0.";
  NamedTensors model;
  for (const auto& [key, tensor] : f.tensors) {
    if (key.rfind(prefix, 0) == 0) model.emplace_back(key.substr(prefix.size()), tensor.clone());
  }
  REQUIRE(model.size() == 6);
  ModelEma ema(model, std::stod(f.meta("decay")), std::stod(f.meta("tau")));
  const double* table = f.at("output.decay_table").data<double>();
  const std::array<int64_t, 9> at{1, 2, 10, 100, 1000, 2000, 5000, 20000, 100000};
  for (size_t i = 0; i < at.size(); ++i) {
    CHECK(ema.decay_at(at[i]) == Approx(table[i]).epsilon(1e-14));
  }
  double worst = 0;
  int64_t compared = 0;
  for (int step = 1; step <= 6; ++step) {
    const std::string tag = "step" + std::to_string(step) + ".";
    for (const auto& [key, tensor] : model) {
      if (const Tensor* now = f.find("input.model." + tag + key)) tensor.copy_from(*now);
    }
    ema.update();
    for (const auto& [key, tensor] : ema.tensors()) {
      const Tensor* expected = f.find("output.ema." + tag + key);
      if (expected == nullptr) continue;
      ++compared;
      worst = std::max(worst, test::max_difference(tensor, *expected));
    }
  }
  INFO(name << ": max difference " << worst << " over " << compared << " tensors");
  CHECK(ema.tensors().size() == 5);  // not the counter
  CHECK(compared >= 25);
  CHECK(worst < 5e-7);
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
            {"bn.running_var", test::random_tensor({17}, seed + 1)}};
  };
  const auto move = [](const NamedTensors& m, uint64_t seed) {
    for (const auto& [name, tensor] : m) {
      tensor.copy_from(test::random_tensor(tensor.shape(), seed));
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
