// SPDX-License-Identifier: Apache-2.0
// Graphs with some layers in float: which layers can be chosen, and the effect of the choice on
// ranges.
#pragma once

#include <string>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::quant {

// The layers that can run in int8 (deploy::can_run_in_int8()). Indices of nodes, in order.
std::vector<int> quantizable_layers(const deploy::Graph& graph);

// The quantized graph with `layers` (node indices) in float and all other quantizable layers in
// int8.
//
// A tensor is stored as integers only if an int8 layer reads it: a group of tensors (see
// unify_ranges()) that a float layer makes or reads, and no int8 layer reads, loses its range. So
// nothing is rounded between two float layers, an int8 layer in front of a float layer writes f32
// directly from its sums, and the output of a float layer in front of an int8 layer is converted
// once. A group that no float layer touches keeps its range, and so does the image, whose integers
// are exact.
//
// `exact`, if given, is the float graph that `graph` rounds (PtqReport::exact): float layers get
// its weights and biases instead of those that learned rounding and bias correction chose for int8.
//
// Throws Error for a graph without ranges or groups, or a node that is not a layer.
deploy::Graph with_float_layers(const deploy::Graph& graph, const std::vector<int>& layers,
                                const deploy::Graph* exact = nullptr);

// The same with the layers that match `names` (find_layers()) and those that are already in float.
deploy::Graph with_named_in_float(const deploy::Graph& graph,
                                  const std::vector<std::string>& names);

// The same with the layers that read the image and those that are already in float.
deploy::Graph with_image_in_float(const deploy::Graph& graph);

// The quantizable layers not in `layers`.
std::vector<int> other_layers(const deploy::Graph& graph, const std::vector<int>& layers);

// The layers that match the names, in which `*` stands for any run of characters and `?` for one.
// In the graph's order, each once. Throws Error for a name that matches no layer, suggesting the
// nearest.
std::vector<int> find_layers(const deploy::Graph& graph, const std::vector<std::string>& names);

// Throws Error for a name that find_layers() will not match once `graph`, already fused, is
// quantized.
void check_layers(const deploy::Graph& graph, const std::vector<std::string>& names);

// Whether `name` matches `pattern`.
bool matches_pattern(const std::string& pattern, const std::string& name);

}  // namespace sextant::quant
