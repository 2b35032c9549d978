// SPDX-License-Identifier: Apache-2.0
// What each graph pass does, as a table: `sextant info MODEL --passes`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "deploy/graph/graph.h"

namespace sextant::deploy {

// The graph after a pass.
struct PassRow {
  std::string pass;  // "traced", "fold_linear", ...; "fused" for a graph that comes fused
  int64_t nodes = 0;
  int64_t convolutions = 0;  // transposed ones included
  // Steps in int8 that would only rescale integers, of activations on their own and, before
  // unify_ranges, of joints of tensors each with a range of its own.
  int64_t requantizations = 0;
  double moved_mb = 0;  // what all nodes read and write in bytes-sized activations, one image
  // Milliseconds of the int8 engine with all passes but this one; nothing where that cannot run (a
  // graph with batch-norm nodes), where the pass changes nothing, or where it was not asked for.
  std::optional<double> ms_without;
};

struct PassReport {
  std::vector<PassRow> rows;
  int64_t requantizations = 0;   // of the engine's steps when all passes ran
  int64_t remaining_joints = 0;  // of the ranges that the graph came with; 0 without ranges
  std::optional<double> ms;      // with all passes
  int runs = 0;
};

struct PassReportOptions {
  int64_t height = 640, width = 640;
  int runs = 0;  // timed runs of each variant, in turns; 0: no timing
};

// `graph`: traced (every pass is shown) or fused (unify_ranges only). For timing, ranges come from
// one float run on an image of noise: the values of scales do not change what is executed.
PassReport report_passes(const Graph& graph, const PassReportOptions& options);
std::string format_passes(const PassReport& report);
Json passes_to_json(const PassReport& report);

}  // namespace sextant::deploy
