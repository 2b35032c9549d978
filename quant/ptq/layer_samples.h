// What the layer-by-layer methods see of a network: the result of each convolution before residual
// and activation, exact and quantized, and the inputs that made it, at some pixels.
//
// Pixels are drawn by seed, layer and image alone, so that the exact and the quantized pass see the
// same ones. Row r is of image r % images. For a deconv a pixel is one of its input, and its row
// holds the four results it makes, ordered (row, column, channel).
#pragma once

#include <cstdint>
#include <vector>

#include "deploy/engine/program.h"

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

// The network as the int8 engine runs it, over all images, advanced node by node, so that each
// layer can be looked at, and changed, before anything behind it runs, and no layer runs again for
// a later one. Of the activations, those of all images are in memory that a node still to come
// reads.
class QuantizedPass {
 public:
  // Stands before the first node. The graphs that the others are given may differ from this one in
  // weights, weight scales and biases only; `images` has to outlive the pass.
  QuantizedPass(const deploy::Graph& graph, const Images& images, uint64_t seed);

  int next() const { return next_; }
  // Results and inputs of the next node, in the same way as sample_exact(); it runs in int8.
  QuantizedSample sample(const deploy::Graph& graph, int64_t rows) const;
  // Runs the next node as it is in `graph`. A decode node only is passed.
  void advance(const deploy::Graph& graph);

 private:
  deploy::Program program_of(const deploy::Graph& graph, int node) const;
  std::byte* storage_of(size_t image, int tensor) const;
  void bind(deploy::Bases& bases, const deploy::Program& program, const std::vector<int>& tensors,
            size_t image) const;

  const Images& images_;
  uint64_t seed_;
  deploy::EngineConfig config_;
  deploy::Program plan_;                     // where the tensors are
  std::vector<int> last_reader_;             // node, per storage
  std::vector<std::vector<Tensor>> memory_;  // of each image, per storage
  int next_ = 0;
};

}  // namespace sextant::quant
