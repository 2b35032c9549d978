// SPDX-License-Identifier: Apache-2.0
// The measurements on a dataset for partial quantization.
#pragma once

#include "data/dataset/dataset.h"
#include "quant/layers/partial.h"

namespace sextant::apps {

// mAP50-95 on `dataset`, and times of `runs` runs on its first image, all at `image_size`. Measures
// the layer times immediately. Keeps a reference to the dataset.
quant::PartialMeasures partial_measures(const deploy::Graph& graph, const data::Dataset& dataset,
                                        int image_size, int runs);

}  // namespace sextant::apps
