// SPDX-License-Identifier: Apache-2.0
// The fake-quant simulation of the int8 engine.
//
// The same graph, plan and data movement as the engine, but every quantized tensor holds its
// integers as f32 and every convolution is the f32 one, summed directly, on integer-valued operands,
// followed by the engine's epilogue in the same order of operations:
//   y = saturate(round_half_even(act((sum + bias / (s_x s_w)) * (s_x s_w / s_y)) + a residual))
// That is quantize-dequantize of activations and weights around an f32 convolution, with the scales
// taken out of the sum. While |sum| < 2^24 it is exact in f32 and the two agree to the bit, but where
// an activation's exponential rounds differently; beyond 2^24, f32 rounding may move a result that
// sits on a rounding edge by one step.
#pragma once

#include <string>
#include <vector>

#include "deploy/engine/engine.h"

namespace sextant::deploy {

// config.precision is taken as int8.
Engine make_simulation(const Graph& graph, EngineConfig config);

// How far simulation and int8 engine are apart at one tensor.
struct StepDifference {
  std::string tensor;
  int64_t max_steps = 0;  // largest |difference| of the integers
  int64_t differing = 0;  // how many differ
  int64_t values = 0;
  bool floats = false;     // compared as floats: a tensor that is not integers on both sides
  double max_float = 0.0;  // then held as f32: largest |difference| / largest |value|
};

// Runs both on the same images, each on its own from the image on, so that differences add up along
// the network, and compares every tensor. Both must be of one graph and size.
std::vector<StepDifference> compare_engines(Engine& engine, Engine& simulation,
                                            const Tensor& images);

// The same, but `engine` runs every layer on the inputs that `reference` had there, so that what is
// compared is each layer on its own: an int8 engine and a fully integer one differ by the rounding
// of one rescaling. Tensors that are integers on one side only (head outputs, result) count as
// floats.
std::vector<StepDifference> compare_layers(Engine& engine, Engine& reference, const Tensor& images);

}  // namespace sextant::deploy
