// What the layer-by-layer methods see of a network: the result of each convolution before residual
// and activation, exact and quantized, and the inputs that made it, at some pixels.
//
// Pixels are drawn by seed, layer and image alone, so that the exact and the quantized pass see the
// same ones. Row r is of image r % images. For a deconv a pixel is one of its input, and its row
// holds the four results it makes, ordered (row, column, channel).
#pragma once

#include <cstdint>
#include <vector>

#include "deploy/graph.h"

namespace sextant::quant {

struct LayerSample {
  std::vector<double> mean;  // of each output channel, over all pixels of all images
  Tensor outputs;  // f32 [R, M] at the sampled pixels, M = O (deconv: 4 O); empty for R = 0
};

// One batch of one image each, u8 [1,H,W,3], all of one size.
using Images = std::vector<Tensor>;

// The f32 engine's results of every conv and deconv, by node; others are empty. rows[n] is R of
// node n.
std::vector<LayerSample> sample_exact(const deploy::Graph& graph, const Images& images,
                                      const std::vector<int64_t>& rows, uint64_t seed);

struct QuantizedSample {
  LayerSample result;
  // f32 [R, K] for each group of the convolution: what the kernel sees around each pixel, zeros
  // beyond the border; quantized values, not their integers.
  std::vector<Tensor> inputs;
};

// The int8 engine's result of one node, from the image on, in the same way. `graph` has ranges, and
// the node runs in int8 there.
QuantizedSample sample_quantized(const deploy::Graph& graph, int node, const Images& images,
                                 int64_t rows, uint64_t seed);

// Whether the int8 engine runs the node on integers.
bool runs_in_int8(const deploy::Graph& graph, const deploy::Node& node);

}  // namespace sextant::quant
