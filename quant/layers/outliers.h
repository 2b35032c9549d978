// SPDX-License-Identifier: Apache-2.0
// The ratio of a tensor's largest value to its typical value, which determines the loss from
// quantization with one step per tensor.
//
// A step is the largest magnitude over 127 (255 unsigned), and rounding to it adds noise of
// step^2 / 12. So with r = largest / root mean square, a signed tensor is left with a
// signal-to-noise ratio of 12 * 127^2 / r^2: each doubling of r costs 6 dB, one bit.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "deploy/graph/graph.h"

namespace sextant::quant {

struct PeakToRms {
  double largest = 0;  // max |v|
  double rms = 0;      // square root of the mean of v^2
  double ratio() const { return rms > 0 ? largest / rms : 0; }
};

struct LayerOutliers {
  std::string name;      // of the convolution or transposed convolution
  PeakToRms weight;      // over the whole weight
  PeakToRms activation;  // over its output, after the activation, of all images
  // Largest over smallest range of its output channels' weights, without all-zero channels: the
  // factor that a scale per channel absorbs.
  double channel_ratio = 1;
};

// In node order. `graph` must be fused; `source` yields batches as in quant/ptq/ptq.h. Throws Error
// if it yields none.
std::vector<LayerOutliers> measure_outliers(const deploy::Graph& graph,
                                            const std::function<Tensor()>& source);

}  // namespace sextant::quant
