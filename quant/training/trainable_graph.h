// SPDX-License-Identifier: Apache-2.0
// A trainable form of the deploy graph: the graph that is trained is the one that is deployed.
//
// Its nodes run through the differentiable functions of layers/. In a graph with ranges every node
// that the int8 engine computes in integers is computed on integers here, with the same sums, the
// same epilogue and the same saturation (layers/quantized.h), so that a forward pass equals
// deploy::make_simulation() of graph() to the bit while sums stay below 2^24. Nodes with
// Precision::kFloat32, and a graph without ranges, compute in float. Batch-norm is folded already.
//
// Parameters are "<node>.weight" and "<node>.bias"; with learned scales also "<node>.weight_scale"
// and, for each group of tensors that share a range, "<first tensor of the group>.amax". Scales
// that are not learned are buffers of those names. The image's range is neither, since it is exact.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/enum_names.h"
#include "deploy/graph/graph.h"
#include "layers/module.h"
#include "layers/quantized.h"

namespace sextant::quant {

enum class WeightRanges {
  kFrozen,  // as in the graph; weights that outgrow them are clipped
  kFollow,  // the largest |w| of each output channel / 127, see update_scales()
  kLearned  // LSQ
};
constexpr auto enum_names(WeightRanges) {
  return make_enum_names<WeightRanges>("weight ranges", {{WeightRanges::kFrozen, "frozen"},
                                                         {WeightRanges::kFollow, "follow"},
                                                         {WeightRanges::kLearned, "learned"}});
}

struct TrainableOptions {
  bool learn_activation_ranges = false;  // LSQ; otherwise they are frozen
  WeightRanges weights = WeightRanges::kFrozen;
  std::vector<int> features;     // tensors that forward() returns, e.g. neck_outputs()
  Device device = Device::kCpu;  // holds the parameters and runs everything
};

// The neck's output tensors, one per level of the decode node, in its order; distillation compares
// these. For each level it is the last tensor on which both the class map and the box map depend.
// If the node that makes it belongs to the head (its name has the part "stems", as in official
// models), it is that node's input instead. Throws Error without a decode node.
std::vector<int> neck_outputs(const deploy::Graph& graph);

class TrainableGraph : public Module {
 public:
  // `graph` must be fused; weights are copied. Throws Error for a graph that the int8 engine would
  // refuse.
  explicit TrainableGraph(deploy::Graph graph, TrainableOptions options = {});

  struct Output {
    // The inputs of the decode node, by level, as real numbers; objectness only if it reads it.
    std::vector<Variable> cls_logits, reg, objectness;
    std::vector<Variable> features;  // real
    Variable result;                 // without a decode node: the graph's output, real
  };
  // Called with every computed tensor; quantized ones hold integers.
  using Observer = std::function<void(int tensor, const Variable&)>;
  // images: u8 [N,H,W,3] on the graph's device. Does not wait for the device. Throws Error for
  // shapes that do not fit.
  Output forward(const Tensor& images, const Observer& observer = nullptr) const;

  // Call it after the weights have changed: recomputes the scales for kFollow, and keeps learned
  // scales positive, at no less than 1/1000 of their initial value. Waits for the device if scales
  // follow or are learned.
  void update_scales();
  // Call it after loading a state: copies the ranges from the device to the host.
  void read_ranges();

  // The current graph, on the host: weights, weight scales and ranges. Frozen ranges are unchanged
  // bit for bit.
  deploy::Graph graph() const;
  bool quantized() const { return quantized_; }

 private:
  struct Parameters {
    Variable weight, bias, weight_scale;
    Tensor least_scale;  // for learned scales; on the host
  };
  bool is_integer(int tensor) const;
  const QuantRange& range(int tensor) const;
  Variable real(const std::vector<Variable>& values, int tensor) const;
  Variable image(const Tensor& images) const;
  Variable run(size_t node, const std::vector<Variable>& values) const;
  void register_ranges();
  void register_weights();

  deploy::Graph graph_;
  TrainableOptions options_;
  bool quantized_ = false;
  std::vector<Parameters> parameters_;  // per node
  std::vector<QuantRange> ranges_;      // per group
  std::vector<float> least_amax_;       // per group, for learned ranges
  std::vector<int> last_reader_;        // index of a node, by tensor; -1: none
};

}  // namespace sextant::quant
