// Graphs with some layers in float: which layers can be chosen, and what the choice means for the
// ranges.
#pragma once

#include <string>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::quant {

// The layers that can run in int8 (deploy::can_run_in_int8()). Indices of nodes, in order.
std::vector<int> quantizable_layers(const deploy::Graph& graph);

// The quantized graph with `layers` (node indices) in float and all other quantizable ones in int8.
//
// A tensor is held as integers only where an int8 layer reads it: a group of tensors (see
// unify_ranges()) that a float layer makes or reads, and of which no int8 layer reads one, loses
// its range. So between two float layers nothing is rounded, an int8 layer in front of a float one
// writes f32 straight out of its sums, and a float layer in front of an int8 one is converted once.
// A group that no float layer touches stays as it was, and so does the image, whose integers are
// exact.
//
// `exact`, where given, is the float graph that `graph` rounds (PtqReport::exact): layers in float
// get its weights and biases in place of those that learned rounding and bias correction chose for
// int8.
//
// Throws Error for a graph without ranges or groups, or a node that is no layer.
deploy::Graph with_float_layers(const deploy::Graph& graph, const std::vector<int>& layers,
                                const deploy::Graph* exact = nullptr);

// The same with the layers that `names` mean (find_layers()) and those that are in float already.
deploy::Graph with_named_in_float(const deploy::Graph& graph,
                                  const std::vector<std::string>& names);

// The quantizable layers that are not among `layers`.
std::vector<int> other_layers(const deploy::Graph& graph, const std::vector<int>& layers);

// The layers that the names mean; `*` in a name stands for any run of characters, `?` for one. In
// the graph's order, each once. Throws Error for a name that fits no layer, naming the nearest.
std::vector<int> find_layers(const deploy::Graph& graph, const std::vector<std::string>& names);

// Throws Error for a name that find_layers() will not find once `graph`, fused, is quantized.
void check_layers(const deploy::Graph& graph, const std::vector<std::string>& names);

// Whether `name` fits `pattern`.
bool matches_pattern(const std::string& pattern, const std::string& name);

}  // namespace sextant::quant
