// Runs many variants of a graph that differ in few layers, each time only what differs.
//
// A base graph runs once per batch with a piece of memory for every activation, so that all stay. A
// variant is the same graph with other precisions and ranges; only the nodes that compute something
// else than in the base run, into memory of their own, and read all the rest from the base. Integer
// layers run as in deploy/engine/simulate.h, so a variant's values are those of a simulation of the
// whole variant, to the bit.
#pragma once

#include <vector>

#include "deploy/engine/program.h"

namespace sextant::quant {

class IncrementalRunner {
 public:
  // `base` must have ranges. Takes memory for all activations of `batch` images twice (f32).
  IncrementalRunner(const deploy::Graph& base, int64_t batch, int64_t height, int64_t width);

  // images: u8 [batch,height,width,3]. Runs the base; before base_values() and run().
  void run_base(const Tensor& images);
  // f32, dequantized, [N,H,W,C].
  Tensor base_values(int tensor) const;

  // The values of `tensors` (ids; not a decode node's) in the variant. Throws Error when the graphs
  // differ in more than precisions, weights' scales and ranges, and the weights and biases of
  // layers whose precision differs.
  std::vector<Tensor> run(const deploy::Graph& variant, const std::vector<int>& tensors);

  // Nodes that the last run() computed.
  int64_t nodes_run() const { return nodes_run_; }

 private:
  std::vector<bool> changed_nodes(const deploy::Graph& variant) const;

  deploy::Graph base_;
  deploy::EngineConfig config_;
  deploy::Program program_;
  deploy::Bases bases_;
  Tensor arena_, spare_;  // of the base, of a variant
  int64_t nodes_run_ = 0;
};

// Bytes that a base takes for one image.
int64_t activation_bytes(const deploy::Graph& graph, int64_t height, int64_t width);

}  // namespace sextant::quant
