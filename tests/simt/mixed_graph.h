// SPDX-License-Identifier: Apache-2.0
// A small graph with every kind of node, for engines on the device.
#pragma once

#include "deploy/networks.h"

namespace sextant::test {

constexpr int64_t kMixedHeight = 16, kMixedWidth = 24;

inline deploy::Graph mixed_graph(Activation act, uint64_t seed) {
  return fuse(traced(MixedNet(act, seed), {1, kMixedHeight, kMixedWidth, 3}));
}

}  // namespace sextant::test
