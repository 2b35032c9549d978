// The deploy graph as something to train: what is trained is what is deployed.
//
// Its nodes run through the differentiable functions of layers/. In a graph with ranges every node
// that the int8 engine computes in integers is computed on integers here, with the same sums, the
// same epilogue and the same saturation (layers/quantized.h), so that a forward pass equals
// deploy::make_simulation() of graph() to the bit while sums stay below 2^24. Nodes with
// Precision::kFloat32, and a graph without ranges, compute in float. Batch-norm is folded already.
//
// Parameters are "<node>.weight" and "<node>.bias"; with learned scales also "<node>.weight_scale"
// and, for each group of tensors that share a range, "<first tensor of the group>.amax". Scales
// that are not learned are buffers of those names. The image's range is neither: it is exact.
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
  kFrozen,  // as they are in the graph; weights that grow out of them are clipped
  kFollow,  // the largest |w| of each output channel / 127, see update_scales()
  kLearned  // LSQ
};
constexpr auto enum_names(WeightRanges) {
  return make_enum_names<WeightRanges>("weight ranges", {{WeightRanges::kFrozen, "frozen"},
                                                         {WeightRanges::kFollow, "follow"},
                                                         {WeightRanges::kLearned, "learned"}});
}

struct TrainableOptions {
  bool learn_activation_ranges = false;  // LSQ; else they are frozen
  WeightRanges weights = WeightRanges::kFrozen;
  std::vector<int> features;     // tensors that forward() returns; neck_outputs() for one
  Device device = Device::kCpu;  // where parameters lie and all of it runs
};

// The tensors in which the neck ends, one per level of the decode node, in its order: distillation
// compares these. For each level the last tensor that both its class and its box map depend on;
// where the node that makes it lies in the head (its name has "stems" as a part, as official models
// have), what that node reads. Throws Error without a decode node.
std::vector<int> neck_outputs(const deploy::Graph& graph);

class TrainableGraph : public Module {
 public:
  // A fused graph; weights are copied. Throws Error for a graph that the int8 engine would refuse.
  explicit TrainableGraph(deploy::Graph graph, TrainableOptions options = {});

  struct Output {
    // What the decode node reads, per level; real. Objectness only where it reads that.
    std::vector<Variable> cls_logits, reg, objectness;
    std::vector<Variable> features;  // real
    Variable result;                 // without a decode node: the graph's output, real
  };
  // Called with every tensor that is computed; quantized ones hold integers.
  using Observer = std::function<void(int tensor, const Variable&)>;
  // images u8 [N,H,W,3] on the graph's device, for which it does not wait. Throws Error for shapes
  // that do not fit.
  Output forward(const Tensor& images, const Observer& observer = nullptr) const;

  // After the weights changed: kFollow takes the scales anew; learned ones are kept positive, at
  // 1/1000 of where they started at least. Where scales follow or are learned it waits for the
  // device.
  void update_scales();
  // After values were put into its state from elsewhere: a device's ranges are known to the host.
  void read_ranges();

  // The graph as it is now, on the host: weights, weight scales and ranges. Frozen ranges are the
  // given ones to the bit.
  deploy::Graph graph() const;
  bool quantized() const { return quantized_; }

 private:
  struct Parameters {
    Variable weight, bias, weight_scale;
    Tensor least_scale;  // learned; on the host
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
  std::vector<float> least_amax_;       // per group, learned
  std::vector<int> last_reader_;        // node index per tensor, -1: none
};

}  // namespace sextant::quant
