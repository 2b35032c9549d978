// The ranges of a model as JSON, to read and to edit.
//
//   {"tensors": {"images": {"group": 0, "unsigned": true, "amax": 1.0}, ...}}
#pragma once

#include <string>

#include "core/config.h"
#include "deploy/graph/graph.h"

namespace sextant::quant {

// All tensors with a range, in the order of the graph.
Json ranges_to_json(const deploy::Graph& graph);

// Gives the tensors named in `json` their "amax" (a bare number will do), and with each all tensors
// of its group; others keep theirs. Returns how many tensors changed. Throws Error starting with
// `where`: for a tensor that is not there (naming the nearest), one that has no range, an amax that
// is not a positive finite number, two of one group that differ, another group or sign than the
// model's, and the image, whose range is fixed. The graph is unchanged then.
int64_t apply_ranges(deploy::Graph& graph, const Json& json, const std::string& where);

}  // namespace sextant::quant
