// The int8 engine against what it has to equal, over images of a split.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset/dataset.h"
#include "deploy/engine/simulate.h"

namespace sextant::apps {

struct Verification {
  // Of each tensor: the larger differences of all images, and the sums of the counts.
  std::vector<deploy::StepDifference> tensors;
  int64_t images = 0;
  // Over the tensors that are integers on both sides.
  int64_t max_steps = 0, differing = 0, values = 0;
  double max_float = 0;  // over the others: largest |difference| / largest |value|
};

// `count` images (at most), spread over the split. kInt8: engine and simulation; kInteger: each
// layer of the fully integer engine and of the int8 engine, on the same inputs.
Verification verify(const deploy::Graph& graph, const data::Dataset& dataset, int64_t count,
                    int image_size, deploy::Precision precision);

}  // namespace sextant::apps
