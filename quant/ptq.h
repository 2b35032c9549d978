// Post-training quantization: run the f32 engine on images, choose a range for every activation
// group, put per-channel scales on the weights.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "deploy/graph.h"

namespace sextant::quant {

struct PtqConfig {
  std::string method = "percentile";  // percentile, entropy, mse, max
  double percentile = 99.99;          // of |x|, for method percentile
  int64_t images = 64;                // at most; the source may end before
  int64_t bins = 2048;
};

// The next batch: u8 [N,H,W,3], letterboxed exactly as in deployment (clean, not augmented); all of
// one size. An empty Tensor ends the calibration.
using ImageSource = std::function<Tensor()>;

struct PtqGroup {
  std::vector<std::string> tensors;
  bool is_unsigned = false;
  float amax = 0;      // chosen: the largest of its tensors' choices
  float observed = 0;  // largest |x| seen
};

struct PtqReport {
  std::vector<PtqGroup> groups;
  int64_t images = 0;
  int64_t requantizations = 0;  // steps that rescale integers between convolutions: 0
};

// `graph` must be fused. Returns it with a range on every tensor but those that decode reads, and
// weight scales (largest |w| of each output channel / 127) on every convolution. Each tensor has a
// collector of its own; a group takes the largest of its tensors' choices, since clipping one of a
// concat's inputs for the sake of another costs more than a coarser step. Progress on stderr.
// Throws Error for an unknown method, no images, or values that are not finite (naming the tensor).
deploy::Graph quantize(const deploy::Graph& graph, const ImageSource& source,
                       const PtqConfig& config, PtqReport* report = nullptr);

}  // namespace sextant::quant
