// SPDX-License-Identifier: Apache-2.0
// From a forward pass to a graph.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/trace.h"
#include "deploy/graph/graph.h"

namespace sextant::deploy {

using NamedVariables = std::vector<std::pair<std::string, Variable>>;

// Runs `forward` once, without gradients, on a zero image of `input_shape` [1,H,W,3] and returns
// the operations it recorded as a graph, one node per operation, in order; operations that do not
// lead to the result are left out. The model must be in eval mode. `parameters` give the nodes
// their names: "backbone.stem.rbr_dense.conv.weight" makes node "backbone.stem.rbr_dense.conv".
// Weights are shared with the model, not copied (fuse() copies). Throws Error naming the operation
// if deploy does not support it or it reads data that no recorded operation made.
Graph trace_model(const std::function<Variable(const Variable&)>& forward,
                  const NamedVariables& parameters, const Shape& input_shape);

// The same from operations that are already recorded.
Graph graph_from_ops(const std::vector<trace::Op>& ops, const Variable& input,
                     const Variable& output, const NamedVariables& parameters);

}  // namespace sextant::deploy
