// What partial quantization measures on a dataset.
#pragma once

#include "data/dataset/dataset.h"
#include "quant/layers/partial.h"

namespace sextant::apps {

// mAP50-95 on `dataset`, and times of its first image in `runs` runs, all at `image_size`. Takes
// the times of the layers at once. Keeps a reference to the dataset.
quant::PartialMeasures partial_measures(const deploy::Graph& graph, const data::Dataset& dataset,
                                        int image_size, int runs);

}  // namespace sextant::apps
