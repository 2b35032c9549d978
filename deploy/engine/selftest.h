// SPDX-License-Identifier: Apache-2.0
// Proof that an int8 network gives the same integers here as where its file was written: two golden
// images, which every machine draws alike, go through the engine, and the integers of each tensor are
// compared with the file's by their hashes.
#pragma once

#include <filesystem>

#include "deploy/engine/engine.h"

namespace sextant::deploy {

// u8 [1, height, width, 3], `which` 0 or 1: waves and blocks of several sizes with noise, by integer
// arithmetic alone.
Tensor golden_image(int which, int64_t height, int64_t width);

// Hashes the integers of every tensor for the graph as it is, at the size of its images, on this
// CPU, into graph.proof.golden. Leaves out tensors behind a layer in float: they may differ by rounding.
// Nothing for a graph that is not quantized or whose input are not images.
void add_golden_integers(Graph& graph);

// save_deploy() with the golden integers of the graph as it is, and without what else its proof says
// where the graph has been changed: what programs write.
void save_with_proof(const std::filesystem::path& path, Graph graph);

struct SelfTest {
  int64_t tensors = 0;  // compared
  int64_t others = 0;   // the others of the graph
  int64_t height = 0, width = 0;
};
// Runs the int8 engine on `device`. Throws Error that names the file and the first tensor whose
// integers are others, or why there is nothing to compare. On CUDA what lies behind an exponential is
// left out: the CPU's may round another way.
SelfTest selftest(const Graph& graph, Device device);

}  // namespace sextant::deploy
