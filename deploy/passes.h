// Passes over the graph. Each takes a graph and returns another; arithmetic on weights is in
// double.
#pragma once

#include "deploy/graph.h"

namespace sextant::deploy {

// All of the below, in order: what an engine wants. The result computes the same function.
Graph fuse(const Graph& graph);

// rep_bn_act whose branches are convolutions of one tensor x (3x3, and 1x1 where a 3x3 is there or
// alone), or x itself, becomes one convolution with a bias and the activation:
//   w = sum_b w_b * gamma_b / sqrt(var_b + eps),   1x1 and identity at the centre,
//   bias = sum_b beta_b + (bias_b - mean_b) * gamma_b / sqrt(var_b + eps)
// (RepVGG, Ding et al. 2021, section 3.3). A rep_bn_act of one branch becomes a convolution with
// batch-norm folded in; of no convolution, a depthwise 1x1 one. Throws Error naming the node for
// branches that cannot be one convolution. A fused block of several branches is named
// "<common path>.rbr_reparam", as the official deploy form.
Graph fold_batch_norm(const Graph& graph);

// conv or deconv followed by an activation -> the activation inside, when nothing else reads the
// convolution's result.
Graph fold_activation(const Graph& graph);

// conv + r -> convolution with a residual, when nothing else reads the convolution's result.
Graph fold_residual(const Graph& graph);

// Removes nodes that do not lead to the output, renumbers tensors, keeps the order.
Graph remove_dead(const Graph& graph);

}  // namespace sextant::deploy
