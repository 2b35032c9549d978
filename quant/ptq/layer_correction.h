// SPDX-License-Identifier: Apache-2.0
// Learned rounding and bias correction, layer by layer in the order of the graph, each on the
// outputs of the quantized layers before it.
#pragma once

#include <cstdint>

#include "quant/ptq/layer_samples.h"
#include "quant/ptq/rounding.h"

namespace sextant::quant {

struct LayerCorrectionConfig {
  bool learned_rounding = false;
  bool bias_correction = false;
  RoundingConfig rounding = {};
  uint64_t seed = 1;  // for choosing the sampled pixels
};

struct LayerCorrectionReport {
  int64_t layers_rounded = 0;
  int64_t weights = 0;          // in the layers with learned rounding
  int64_t weights_moved = 0;    // not rounded to their nearest integer
  double rounding_gain_db = 0;  // reduction of the error of a layer's result, mean over the layers
  int64_t layers_corrected = 0;
  double largest_shift =
      0;  // of a mean that bias correction removed (root mean square over a layer)
};

// `graph` has ranges and weight scales; `exact` is the same graph without rounding, which provides
// the target results. Only nodes that run in int8 change: weights become integers times their
// scale, biases are corrected. Shows progress on stderr. Does nothing when both switches are off.
// Throws Error without images.
LayerCorrectionReport correct_layers(deploy::Graph& graph, const deploy::Graph& exact,
                                     const Images& images, const LayerCorrectionConfig& config);

// Signal-to-quantization-noise ratio in dB, 10 log10(sum x^2 / sum (x - q)^2) over all images, mean
// over the tensors that the decoder reads (without one: of the output). 200 where nothing differs.
double output_sqnr(const deploy::Graph& exact, const deploy::Graph& quantized,
                   const Images& images);

}  // namespace sextant::quant
