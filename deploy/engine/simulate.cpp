// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/simulate.h"

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

namespace {

// What a run gave at every tensor: integers where it has them.
std::vector<Tensor> record(Engine& engine, const Tensor& images) {
  std::vector<Tensor> tensors(engine.graph().tensors.size());
  engine.run(images, [&](const TensorView& v) {
    tensors[static_cast<size_t>(v.id)] = v.quantized ? v.integers() : v.values();
  });
  return tensors;
}

StepDifference compare(const TensorView& v, const Tensor& reference) {
  StepDifference d;
  d.tensor = v.info->name;
  d.values = v.shape.numel();
  d.floats = reference.dtype() != DType::kI32;
  if (!d.floats)
    compare_integers(v.integers(), reference, d);
  else
    compare_floats(v.values(), reference, d);
  return d;
}

}  // namespace

std::vector<StepDifference> compare_engines(Engine& engine, Engine& simulation,
                                            const Tensor& images) {
  const std::vector<Tensor> expected = record(simulation, images);
  std::vector<StepDifference> result;
  engine.run(images, [&](const TensorView& v) {
    const Tensor& reference = expected.at(static_cast<size_t>(v.id));
    check(reference.shape() == v.shape && v.quantized == (reference.dtype() == DType::kI32),
          "compare_engines: tensor '{}' differs in shape or precision", v.info->name);
    result.push_back(compare(v, reference));
  });
  return result;
}

std::vector<StepDifference> compare_layers(Engine& engine, Engine& reference,
                                           const Tensor& images) {
  const std::vector<Tensor> expected = record(reference, images);
  std::vector<StepDifference> result;
  engine.run(images, [&](const TensorView& v) {
    Tensor wanted = expected.at(static_cast<size_t>(v.id));
    check(wanted.shape() == v.shape && (v.quantized || wanted.dtype() == DType::kF32),
          "compare_layers: tensor '{}' differs in shape or precision", v.info->name);
    result.push_back(compare(v, wanted));
    if (!v.quantized || v.id == engine.graph().input) return;  // the image is the caller's
    if (wanted.dtype() == DType::kF32) {
      Tensor rounded(wanted.shape(), DType::kI32);
      for (int64_t i = 0; i < wanted.numel(); ++i)
        rounded.data<int32_t>()[i] =
            static_cast<int32_t>(std::nearbyint(wanted.f32()[i] / v.scale));
      wanted = rounded;
    }
    v.assign(wanted);
  });
  return result;
}

}  // namespace sextant::deploy
