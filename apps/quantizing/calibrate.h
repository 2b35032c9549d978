// A model that is wanted with ranges, and images out of a dataset.
#pragma once

#include <string>
#include <vector>

#include "data/dataset/dataset.h"
#include "deploy/graph/graph.h"
#include "quant/ptq/ptq.h"

namespace sextant::apps {

// Letterboxed images of a split, `count` of them (at most) in batches of `batch`, spread evenly
// over it: neighbours in a folder are often frames of one scene. One that does not decode is
// replaced by the next in its stretch of the split, or left out. Keeps a reference to the dataset.
quant::ImageSource spread_images(const data::Dataset& dataset, int64_t count, int image_size,
                                 int64_t gray_border, int64_t batch = 1);
// The same as one tensor u8 [count,S,S,3].
Tensor spread_batch(const data::Dataset& dataset, int64_t count, int image_size,
                    int64_t gray_border);

// How a model without ranges gets them.
struct Calibration {
  std::string split = "train";
  quant::PtqConfig ptq;
};

// A graph with ranges as it is, a float one calibrated on `data`. Throws Error before calibrating
// when a name of `layers` is not a layer's. A line on stderr says when the weights are rounded
// already, so that nothing is seen (or regained in float) of what rounding them costs.
deploy::Graph with_ranges(deploy::Graph graph, const std::string& data, int image_size,
                          const Calibration& calibration,
                          const std::vector<std::string>& layers = {});

}  // namespace sextant::apps
