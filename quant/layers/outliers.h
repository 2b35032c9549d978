// How far the largest value of a tensor is from its typical one, which is what quantization with
// one step per tensor suffers from.
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
  std::string name;      // of a convolution or transposed convolution
  PeakToRms weight;      // of the whole weight
  PeakToRms activation;  // of its output, after the activation, over all images
  // Largest over smallest range of its output channels' weights, channels of zeros left out: what a
  // scale per channel absorbs.
  double channel_ratio = 1;
};

// In node order. `graph` must be fused; `source` gives batches as quant/ptq/ptq.h says. Throws
// Error without images.
std::vector<LayerOutliers> measure_outliers(const deploy::Graph& graph,
                                            const std::function<Tensor()>& source);

}  // namespace sextant::quant
