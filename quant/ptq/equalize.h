// SPDX-License-Identifier: Apache-2.0
// Cross-layer equalization (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
// and Bias Correction", section 4.1).
//
// ReLU, leaky ReLU and the identity commute with a positive factor, so a channel between two
// convolutions can be made s times smaller and the next weights s times larger without changing the
// function: rows of the first weight (and its bias) times 1 / s, columns of the next times s. That
// equalizes ranges which one scale per tensor would have to cover.
//
// It is applied to the whole graph: channels that are linked by max-pool, upsampling, concat,
// slice, addition and residuals form one set with one s; all convolutions that make or read it are
// scaled. A set that anything else makes or reads (the image, the decoder, the graph's output) is left
// unchanged.
//
// Behind an activation that does not commute with a factor, as SiLU or hardswish, the factor goes
// behind it too: the channel's result is multiplied by 1 / s (Node::gain), which the int8 layers do in
// the product that scales to the destination's steps anyway. That is for the form with activations
// alone, where the makers' weights do not matter. Squeeze-and-excitation's products and means pass
// factors on, and what reads a channel depthwise takes any.
#pragma once

#include <cstdint>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::quant {

// Largest |x| of each channel of each tensor, by tensor id; empty for a tensor not of rank 4.
using ChannelRanges = std::vector<std::vector<float>>;
// Runs the f32 engine on each batch of images (u8 [N,H,W,3]).
ChannelRanges observe_channels(const deploy::Graph& graph, const std::vector<Tensor>& images);

struct EqualizeConfig {
  int64_t sweeps = 100;     // maximum number, each over all sets
  double tolerance = 1e-3;  // stop when all factors of a sweep are this close to 1
  double limit = 1024;      // a set's s stays within [1 / limit, limit]
};

struct EqualizeReport {
  int64_t pairs = 0;     // of convolutions: one makes a set, the other reads it
  int64_t channels = 0;  // sets with an s of their own
  int64_t sweeps = 0;
  double largest = 1;  // the largest of s and 1 / s over all sets
};

// s = sqrt(r1 / r2), set by set in the order of the graph, until nothing changes:
// - without `activations`, r1 and r2 are the paper's: the largest |w| of the rows that make the set
//   and of the columns that read it. Data-free, meant for one scale per weight tensor;
// - with them, r1 is the largest |x| of the set's channels and r2 the largest |w| of its columns,
//   each relative to the largest |w| of its row: with a scale per output channel the size of a row
//   does not matter, but a set's range determines the steps of its tensor.
// Weights and biases are replaced, never modified in place. The function stays the same up to
// rounding. Throws Error when `activations` belong to another graph.
EqualizeReport equalize(deploy::Graph& graph, const EqualizeConfig& config = {},
                        const ChannelRanges* activations = nullptr);

}  // namespace sextant::quant
