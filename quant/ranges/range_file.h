// SPDX-License-Identifier: Apache-2.0
// The ranges of a model as JSON, for inspection and editing.
//
//   {"tensors": {"images": {"group": 0, "unsigned": true, "amax": 1.0}, ...}}
#pragma once

#include <string>

#include "core/config.h"
#include "deploy/graph/graph.h"

namespace sextant::quant {

// All tensors with a range, in the order of the graph.
Json ranges_to_json(const deploy::Graph& graph);

// Sets the range of each tensor named in `json`, and of all tensors in its group, to its "amax" (or
// to a bare number); other tensors keep theirs. Returns how many tensors changed. Throws Error
// starting with `where` for an unknown tensor (suggesting the nearest), a tensor without a range,
// an amax that is not a positive finite number, different values within one group, a group or sign
// other than the model's, and the image, whose range is fixed. The graph is unchanged then.
int64_t apply_ranges(deploy::Graph& graph, const Json& json, const std::string& where);

}  // namespace sextant::quant
