// Which tensors share a range, what a range means, and quantized weights.
#pragma once

#include <cstdint>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::deploy {

// amax at or below this counts as zero (as pytorch-quantization's tensor_quant.py).
inline constexpr float kTinyAmax = 0x1p-24f;

// Sets group and is_unsigned of every tensor of a fused graph. One group: the inputs and the output
// of a concat, of an add, the residual and the output of a convolution, input and output of
// max-pool, upsample and slice; so that no integer has to be rescaled between two convolutions. A
// group is unsigned when none of its tensors can be negative (after ReLU or sigmoid, the image, and
// what passes such values on). The image has a group of its own with amax 1. Run before
// calibration: simulation and engine then agree by construction.
void unify_ranges(Graph& graph);

// Every tensor a group of its own: what ranges are without that pass. An engine then requantizes
// wherever tensors of different ranges meet. To see what the pass gains.
void separate_ranges(Graph& graph);

// Tensors that get a range: all but those of a group that decode or softmax reads or makes (head
// outputs stay f32).
// Indexed by group.
std::vector<bool> groups_to_quantize(const Graph& graph);

// Gives every tensor of group g the range amax[g] (a tiny one becomes kTinyAmax's successor, so
// that the scale stays finite), and every conv and deconv per-channel weight scales amax_oc / 127
// (1 for a channel of zeros). Throws Error unless unify_ranges() or separate_ranges() ran.
void assign_ranges(Graph& graph, const std::vector<float>& group_amax);

// Steps that have to rescale integers between two tensors; 0 after unify_ranges(). An engine has as
// many of kind "requantize".
int64_t count_requantizations(const Graph& graph);

// round-half-even(weight / scale) clamped to [-127, 127], in the layout of `weight`
// ([O, ...], one scale per O).
std::vector<int8_t> quantize_weight(const Tensor& weight, const std::vector<float>& scale);

}  // namespace sextant::deploy
