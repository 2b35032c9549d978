// Cross-layer equalization (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
// and Bias Correction", section 4.1).
//
// ReLU, leaky ReLU and the identity commute with a positive factor, so a channel between two
// convolutions can be made s times smaller and the next weights s times larger without changing the
// function: rows of the first weight (and its bias) times 1 / s, columns of the next times s. That
// evens out ranges which one scale per tensor would have to cover.
//
// Here on the whole graph: channels that are the same one under another name, through max-pool,
// upsampling, concat, slice, addition and residuals, form one set with one s; all convolutions that
// make it and all that read it are scaled. A set that anything else makes or reads (the image, a
// SiLU, the decoder, the graph's output) stays as it is.
#pragma once

#include <cstdint>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::quant {

// Largest |x| of each channel of each tensor, by tensor id; empty for a tensor of another rank.
using ChannelRanges = std::vector<std::vector<float>>;
// Runs the f32 engine on each batch of images (u8 [N,H,W,3]).
ChannelRanges observe_channels(const deploy::Graph& graph, const std::vector<Tensor>& images);

struct EqualizeConfig {
  int64_t sweeps = 100;     // at most, over all sets
  double tolerance = 1e-3;  // stop when no factor of a sweep is farther from 1
  double limit = 1024;      // a set's s stays within [1 / limit, limit]
};

struct EqualizeReport {
  int64_t pairs = 0;     // (convolution that makes a set, convolution that reads it)
  int64_t channels = 0;  // sets with an s of their own
  int64_t sweeps = 0;
  double largest = 1;  // the largest of s and 1 / s over all sets
};

// s = sqrt(r1 / r2), set by set in the order of the graph, until nothing changes:
// - without `activations`, r1 and r2 are the paper's: the largest |w| of the rows that make the set
//   and of the columns that read it. Data-free, meant for one scale per weight tensor;
// - with them, r1 is the largest |x| of the set's channels and r2 the largest |w| of its columns,
//   each relative to the largest |w| of its row: with a scale per output channel the size of a row
//   costs nothing, and what a set's range costs is steps of its tensor.
// Weights and biases are replaced, never written to. The function stays the same but for rounding.
// Throws Error when `activations` are of another graph.
EqualizeReport equalize(deploy::Graph& graph, const EqualizeConfig& config = {},
                        const ChannelRanges* activations = nullptr);

}  // namespace sextant::quant
