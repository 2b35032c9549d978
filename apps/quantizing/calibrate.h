// SPDX-License-Identifier: Apache-2.0
// Calibrates models that need ranges, on images of a dataset.
#pragma once

#include <string>
#include <vector>

#include "data/dataset/dataset.h"
#include "deploy/graph/graph.h"
#include "quant/ptq/ptq.h"

namespace sextant::apps {

// At most `count` letterboxed images of a split in batches of `batch`, spread evenly over it, since
// neighbours in a folder are often frames of one scene. An image that cannot be decoded is replaced
// by the next one in its part of the split, or left out. Keeps a reference to the dataset. The graph
// tells the width for that height, and the grey border.
quant::ImageSource spread_images(const data::Dataset& dataset, int64_t count, int image_size,
                                 const deploy::Graph& graph, int64_t batch = 1);
// The same as one tensor u8 [count,H,W,3].
Tensor spread_batch(const data::Dataset& dataset, int64_t count, int image_size,
                    const deploy::Graph& graph);

// How to calibrate a model without ranges.
struct Calibration {
  std::string split = "train";
  quant::PtqConfig ptq;
};

// A graph with ranges is returned unchanged, a float graph is calibrated on `data`. Throws Error
// before calibrating when a name in `layers` matches no layer. Warns on stderr when the weights are
// already rounded: the cost of rounding them can then be neither measured nor recovered in float.
deploy::Graph with_ranges(deploy::Graph graph, const std::string& data, int image_size,
                          const Calibration& calibration,
                          const std::vector<std::string>& layers = {});

}  // namespace sextant::apps
