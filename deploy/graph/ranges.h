// SPDX-License-Identifier: Apache-2.0
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
// rescaled between two convolutions. A group is unsigned if none of its tensors can be negative
// (NodeRules::never_negative). The image has a group of its own with amax 1. Run before
// calibration: simulation and engine then agree by construction.
void unify_ranges(Graph& graph);

// Makes all groups signed but that of the image, for a runtime without unsigned integers. Run after
// unify_ranges(), before calibration.
void make_signed(Graph& graph);

// Whether the tensor has the image's range: the image or values copied from it.
bool holds_image(const Graph& graph, int tensor);

// Gives every tensor a group of its own, as without unify_ranges(): an engine then requantizes
// wherever tensors of different ranges meet. Used to measure what that pass gains.
void separate_ranges(Graph& graph);

// The inputs of the node with which its output has to share a range: all of a concat, an add, a
// max-pool, upsample or slice, the residual of a convolution.
std::vector<int> inputs_in_output_range(const Node& node);

// Which groups get a range: all except those with a tensor that a node of RangeRule::kFloat reads
// or makes (head outputs stay f32). Indexed by group.
std::vector<bool> groups_to_quantize(const Graph& graph);

// Gives every tensor of group g the range amax[g] (a tiny one becomes kTinyAmax's successor, so
// that the scale stays finite). Throws Error unless unify_ranges() or separate_ranges() ran.
void assign_ranges(Graph& graph, const std::vector<float>& group_amax);

// The number of places where integers have to be rescaled between two tensors; 0 after
// unify_ranges(). An engine has as many steps of kind "requantize".
int64_t count_requantizations(const Graph& graph);

// ---- weights

// The step of weights with largest magnitude `amax`: amax / 127, or 1 if all are close to 0.
float weight_step(float amax);

// The step of each output channel of a weight [O, ...].
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

// Whether it could at precision kInt8: the graph is quantized, the node has weight scales and reads
// a tensor with a range, and a residual is held as the output is, both with ranges or both without.
bool can_run_in_int8(const Graph& graph, const Node& node);

// Throws Error naming the first node that could run in int8 if it had weight scales.
void check_weight_scales(const Graph& graph);

}  // namespace sextant::deploy
