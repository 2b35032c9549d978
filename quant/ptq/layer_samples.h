// SPDX-License-Identifier: Apache-2.0
// Samples of a network for the layer-by-layer methods: the result of each convolution before
// residual and activation, exact and quantized, and its inputs, at some pixels.
//
// The pixels depend on seed, layer and image only, so the exact and the quantized pass sample the
// same ones. Row r comes from image r % images. For a deconv the pixels are those of its input, and
// a row holds the four results of one pixel, ordered (row, column, channel).
#pragma once

#include <cstdint>
#include <vector>

#include "deploy/engine/program.h"

namespace sextant::quant {

struct LayerSample {
  std::vector<double> mean;  // per output channel, over all pixels of all images
  Tensor outputs;  // f32 [R, M] at the sampled pixels, M = O (deconv: 4 O); empty for R = 0
};

// One batch of one image each, u8 [1,H,W,3], all of one size.
using Images = std::vector<Tensor>;

// The f32 engine's results of every conv and deconv, indexed by node; other entries are empty.
// rows[n] is R for node n.
std::vector<LayerSample> sample_exact(const deploy::Graph& graph, const Images& images,
                                      const std::vector<int64_t>& rows, uint64_t seed);

struct QuantizedSample {
  LayerSample result;
  // f32 [R, K] for each group of the convolution: what the kernel sees around each pixel, zeros
  // beyond the border; quantized values, not their integers.
  std::vector<Tensor> inputs;
};

// Runs the network over all images as the int8 engine does, node by node, so that each layer can be
// inspected and changed before later layers run, and no layer runs twice. Keeps the activations of
// all images that a later node reads.
class QuantizedPass {
 public:
  // Starts before the first node. The graphs passed to other members may differ from this one in
  // weights, weight scales and biases only; `images` has to outlive the pass.
  QuantizedPass(const deploy::Graph& graph, const Images& images, uint64_t seed);

  int next() const { return next_; }
  // Results and inputs of the next node, which runs in int8, sampled as by sample_exact().
  QuantizedSample sample(const deploy::Graph& graph, int64_t rows) const;
  // Runs the next node as defined in `graph`. A decode node is skipped.
  void advance(const deploy::Graph& graph);

 private:
  deploy::Program program_of(const deploy::Graph& graph, int node) const;
  std::byte* storage_of(size_t image, int tensor) const;
  void bind(deploy::Bases& bases, const deploy::Program& program, const std::vector<int>& tensors,
            size_t image) const;

  const Images& images_;
  uint64_t seed_;
  deploy::EngineConfig config_;
  deploy::Program plan_;                     // the storage of each tensor
  std::vector<int> last_reader_;             // node, per storage
  std::vector<std::vector<Tensor>> memory_;  // for each image, by storage
  int next_ = 0;
};

}  // namespace sextant::quant
