// SPDX-License-Identifier: Apache-2.0
// Runs many variants of a graph that differ in a few layers, recomputing only what differs.
//
// A base graph runs once per batch and keeps every activation in memory. A variant is the same
// graph with other precisions and ranges; only nodes whose result differs from the base run, into
// separate memory, and read everything else from the base. Integer layers run as in
// deploy/engine/simulate.h, so a variant's values equal those of a simulation of the whole variant
// bit for bit.
#pragma once

#include <vector>

#include "deploy/engine/program.h"

namespace sextant::quant {

class IncrementalRunner {
 public:
  // `base` must have ranges. Allocates memory for all activations of `batch` images twice (f32).
  IncrementalRunner(const deploy::Graph& base, int64_t batch, int64_t height, int64_t width);

  // images: u8 [batch,height,width,3]. Runs the base; call it before base_values() and run().
  void run_base(const Tensor& images);
  // f32, dequantized, [N,H,W,C].
  Tensor base_values(int tensor) const;

  // The values of `tensors` (ids; not a decode node's) in the variant. Throws Error when the graphs
  // differ in more than precisions, weight scales and ranges, and the weights and biases of layers
  // whose precision differs.
  std::vector<Tensor> run(const deploy::Graph& variant, const std::vector<int>& tensors);

  // The number of nodes that the last run() computed.
  int64_t nodes_run() const { return nodes_run_; }

 private:
  std::vector<bool> changed_nodes(const deploy::Graph& variant) const;

  deploy::Graph base_;
  deploy::EngineConfig config_;
  deploy::Program program_;
  deploy::Bases bases_;
  Tensor arena_, spare_;  // for the base, for a variant
  int64_t nodes_run_ = 0;
};

// Bytes that a base needs for one image.
int64_t activation_bytes(const deploy::Graph& graph, int64_t height, int64_t width);

}  // namespace sextant::quant
