// SPDX-License-Identifier: Apache-2.0
// Passes over the graph. Each takes a graph and returns another; arithmetic on weights is in
// double.
#pragma once

#include "deploy/graph/graph.h"

namespace sextant::deploy {

// Runs all passes below, in order. The result computes the same function.
Graph fuse(const Graph& graph);

// Sums of linear functions of one tensor x become one convolution with a bias:
// - rep_bn_act: its branches are convolutions of x, or x itself. With the factor
//   gamma_b / sqrt(var_b + eps) for branch b,
//     w = sum_b w_b factor_b,   bias = sum_b beta_b + (bias_b - mean_b) factor_b
//   (RepVGG, Ding et al. 2021, section 3.3). Without any convolution among the branches it is a
//   depthwise 1x1 one. Throws Error naming the node for branches that cannot become one
//   convolution.
// - add of two convolutions of x, or of one convolution and x, that nothing else reads: the
//   branches of QARepVGG and LinearAdd blocks.
// - a depthwise 1x1 convolution behind a convolution that nothing else reads: a scale per channel.
// Quantized weights keep their integers: only a factor per channel folds into them.
// A smaller kernel, and x itself, sits at the centre of the largest one; a grouped convolution (an
// average over the neighbourhood, for example) fits into one of fewer groups. A block of several
// branches is named "<common path>.rbr_reparam", as the official deploy form.
Graph fold_linear(const Graph& graph);

// conv or deconv followed by an activation -> the activation inside, when nothing else reads the
// convolution's result.
Graph fold_activation(const Graph& graph);

// A positive factor per channel (is_channel_scale()) behind a convolution's activation -> its gain,
// when nothing else reads the activation and it has no range of its own.
Graph fold_gain(const Graph& graph);

// conv + r -> convolution with a residual, when nothing else reads the convolution's result.
Graph fold_residual(const Graph& graph);

// Whether the node is a convolution that is just a factor per channel, and a shift if it has a bias.
bool is_channel_scale(const Node& node);

// Removes nodes that do not lead to the output, renumbers tensors, keeps the order.
Graph remove_dead(const Graph& graph);

}  // namespace sextant::deploy
