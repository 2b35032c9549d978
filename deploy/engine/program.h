// SPDX-License-Identifier: Apache-2.0
// From a graph to the steps of an engine.
#pragma once

#include <memory>
#include <vector>

#include "deploy/engine/engine.h"
#include "deploy/engine/plan.h"
#include "deploy/engine/step.h"

namespace sextant::deploy {

// Storages 0 and 1 lie outside the arena: the caller's images and the result.
inline constexpr int kImages = 0;
inline constexpr int kResult = 1;

struct Program {
  std::vector<std::unique_ptr<Step>> steps;  // in node order
  std::vector<Place> tensors;                // where each tensor of the graph is
  std::vector<Shape> shapes;
  std::vector<bool> quantized;         // held as integers, per tensor
  std::vector<float> scales;           // the value of one step, per tensor; 1 for f32
  std::vector<int64_t> offsets;        // in the arena, per storage; unused for 0 and 1
  std::vector<int64_t> storage_bytes;  // 0 for storages 0 and 1
  EngineStats stats;
};

// The storages' places in an arena of stats.arena_bytes at `arena`.
Bases bases_in(const Program& program, std::byte* arena);

// A tensor where the bases put it; `graph` is the program's.
TensorView view_of(const Graph& graph, const Program& program, const Bases& bases, int tensor);

// For those who run the steps themselves (quant/layers/incremental_runner.h,
// quant/ptq/layer_samples.h).
struct BuildOptions {
  bool keep_activations = false;  // no two tensors share memory but parts and their whole
  std::vector<bool> nodes;        // steps of these only; empty: of all
};

// Throws as Engine's constructor.
Program build_program(const Graph& graph, const EngineConfig& config,
                      const BuildOptions& options = {});

}  // namespace sextant::deploy
