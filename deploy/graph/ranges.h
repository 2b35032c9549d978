// Which tensors share a range, what a range means, quantized weights, and what runs in int8.
#pragma once

#include <cstdint>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::deploy {

// amax at or below this counts as zero (as pytorch-quantization's tensor_quant.py).
inline constexpr float kTinyAmax = 0x1p-24f;

// Sets group and is_unsigned of every tensor of a fused graph. Tensors that hold each other's
// values, or are added, are one group (inputs_in_output_range()), so that no integer has to be
// rescaled between two convolutions. A group is unsigned when none of its tensors can be negative
// (NodeRules::never_negative). The image has a group of its own with amax 1. Run before
// calibration: simulation and engine then agree by construction.
void unify_ranges(Graph& graph);

// Every tensor a group of its own: what ranges are without that pass. An engine then requantizes
// wherever tensors of different ranges meet. To see what the pass gains.
void separate_ranges(Graph& graph);

// The inputs of the node that its output has to share a range with: all of a concat, an add, a
// max-pool, upsample or slice, the residual of a convolution.
std::vector<int> inputs_in_output_range(const Node& node);

// Tensors that get a range: all but those of a group that a node of RangeRule::kFloat reads or
// makes (head outputs stay f32). Indexed by group.
std::vector<bool> groups_to_quantize(const Graph& graph);

// Gives every tensor of group g the range amax[g] (a tiny one becomes kTinyAmax's successor, so
// that the scale stays finite). Throws Error unless unify_ranges() or separate_ranges() ran.
void assign_ranges(Graph& graph, const std::vector<float>& group_amax);

// Steps that have to rescale integers between two tensors; 0 after unify_ranges(). An engine has as
// many of kind "requantize".
int64_t count_requantizations(const Graph& graph);

// ---- weights

// The step of weights whose largest is `amax`: amax / 127, 1 where they are all next to 0.
float weight_step(float amax);

// That of each output channel of a weight [O, ...].
std::vector<float> weight_steps(const Tensor& weight);

// Sets weight_scale of every conv and deconv to its weight_steps().
void set_weight_scales(Graph& graph);

// round-half-even(weight / scale) clamped to [-127, 127], in the layout of `weight`
// ([O, ...], one scale per O).
std::vector<int8_t> quantize_weight(const Tensor& weight, const std::vector<float>& scale);

// ---- what runs in int8

// Whether an int8 engine computes the sums of the node in integers: a conv or deconv of precision
// kInt8 that can.
bool runs_in_int8(const Graph& graph, const Node& node);

// Whether it would at precision kInt8: the graph is quantized, the node has weight scales and reads
// a tensor with a range, and a residual is held as the output is, both with ranges or both without.
bool can_run_in_int8(const Graph& graph, const Node& node);

// Throws Error naming the first node that only lacks weight scales to run in int8.
void check_weight_scales(const Graph& graph);

}  // namespace sextant::deploy
