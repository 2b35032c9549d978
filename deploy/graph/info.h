// SPDX-License-Identifier: Apache-2.0
// A summary of a graph: layers, parameters, FLOPs, precisions.
#pragma once

#include <string>
#include <vector>

#include "core/config.h"
#include "deploy/graph/graph.h"

namespace sextant::deploy {

struct NodeSummary {
  std::string name;
  std::string kind;  // "conv 3x3 s2 relu", "max_pool 5", ...
  Shape input;       // first input
  Shape output;
  int64_t parameters = 0;
  double flops = 0;        // 2 * multiply-accumulates of one image
  std::string precision;   // "int8" or "fp32" for nodes that compute; empty otherwise
  float output_scale = 0;  // 0: f32
  bool output_unsigned = false;
};

struct GraphSummary {
  std::vector<NodeSummary> nodes;
  int64_t parameters = 0;
  double flops = 0;
  // FLOPs as the official README counts them: a 2x2 transposed convolution four times, and the
  // projection of DFL.
  double readme_flops = 0;
  bool quantized = false;
};

// For one image of height x width.
GraphSummary summarize(const Graph& graph, int64_t height, int64_t width);
// A readable table: one line per node and a line of totals.
std::string format_summary(const GraphSummary& summary);
Json summary_to_json(const GraphSummary& summary);

}  // namespace sextant::deploy
