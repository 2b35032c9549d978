// SPDX-License-Identifier: Apache-2.0
// Compares the int8 engine with its reference on images of a split.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset/dataset.h"
#include "deploy/engine/simulate.h"

namespace sextant::apps {

struct Verification {
  // For each tensor: the largest differences over all images, and the sums of the counts.
  std::vector<deploy::StepDifference> tensors;
  int64_t images = 0;
  // For tensors that are integers on both sides.
  int64_t max_steps = 0, differing = 0, values = 0;
  double max_float = 0;  // for other tensors: largest |difference| / largest |value|
};

// Runs at most `count` images, spread over the split. kInt8 compares engine and simulation;
// kInteger compares each layer of the fully integer engine with the int8 engine on the same inputs.
Verification verify(const deploy::Graph& graph, const data::Dataset& dataset, int64_t count,
                    int image_size, deploy::Precision precision);

}  // namespace sextant::apps
