// SPDX-License-Identifier: Apache-2.0
// Finds the channels of different tensors that hold the same values, up to a positive scale.
#pragma once

#include <cstdint>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::quant {

// A channel of a conv or deconv: an output (row o of its weight) or an input (column i).
struct ChannelUse {
  int node = -1;
  int64_t channel = 0;
};

struct ChannelSet {
  std::vector<ChannelUse> makers;   // in the order of the graph
  std::vector<ChannelUse> readers;  // in the order of the graph
};

struct ChannelSets {
  // The sets that may be scaled: made only by convolutions and read only by convolutions; in the order
  // of the graph.
  std::vector<ChannelSet> sets;
  // For each tensor of rank 4, the set of each channel, or -1.
  std::vector<std::vector<int>> of_tensor;
};

// `gains`: also sets made behind an activation that does not commute with a positive factor, which
// need the factor behind it (Node::gain).
ChannelSets find_channel_sets(const deploy::Graph& graph, bool gains = false);

}  // namespace sextant::quant
