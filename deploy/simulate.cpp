#include "deploy/simulate.h"

#include <cmath>
#include <cstdlib>

namespace sextant::deploy {
namespace {

void compare_integers(const Tensor& a, const Tensor& b, StepDifference& d) {
  for (int64_t i = 0; i < a.numel(); ++i) {
    const int64_t steps = std::abs(a.data<int32_t>()[i] - b.data<int32_t>()[i]);
    d.max_steps = std::max(d.max_steps, steps);
    d.differing += steps != 0;
  }
}

void compare_floats(const Tensor& a, const Tensor& b, StepDifference& d) {
  double largest = 1e-30;
  double apart = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    largest = std::max(largest, static_cast<double>(std::abs(b.f32()[i])));
    const double difference = std::abs(static_cast<double>(a.f32()[i]) - b.f32()[i]);
    // NaN must not pass
    apart = difference <= apart ? apart : (std::isnan(difference) ? INFINITY : difference);
    d.differing += a.f32()[i] != b.f32()[i];
  }
  d.max_float = apart / largest;
}

}  // namespace

Engine make_simulation(const Graph& graph, EngineConfig config) {
  config.precision = Precision::kInt8;
  config.simulate = true;
  return Engine(graph, config);
}

std::vector<StepDifference> compare_engines(Engine& engine, Engine& simulation,
                                            const Tensor& images) {
  std::vector<Tensor> expected(simulation.graph().tensors.size());
  simulation.run(images, [&](const TensorView& v) {
    expected[static_cast<size_t>(v.id)] = v.quantized ? v.integers() : v.values();
  });
  std::vector<StepDifference> result;
  engine.run(images, [&](const TensorView& v) {
    const Tensor& reference = expected.at(static_cast<size_t>(v.id));
    check(reference.shape() == v.shape && v.quantized == (reference.dtype() == DType::kI32),
          "compare_engines: tensor '{}' differs in shape or precision", v.info->name);
    StepDifference d;
    d.tensor = v.info->name;
    d.values = v.shape.numel();
    if (v.quantized)
      compare_integers(v.integers(), reference, d);
    else
      compare_floats(v.values(), reference, d);
    result.push_back(std::move(d));
  });
  return result;
}

}  // namespace sextant::deploy
