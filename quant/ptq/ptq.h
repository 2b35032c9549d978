// SPDX-License-Identifier: Apache-2.0
// Post-training quantization: choose a range for every activation group and a scale for every
// channel of the weights, and, by switches, make the network easier to quantize first and round it
// better afterwards. No training: images without labels are all it needs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "deploy/graph/graph.h"
#include "quant/ptq/equalize.h"
#include "quant/ptq/layer_correction.h"
#include "quant/ptq/split_identity.h"
#include "quant/ranges/calibrator.h"
#include "quant/ranges/weight_ranges.h"

namespace sextant::quant {

// Cross-layer equalization (quant/ptq/equalize.h): by the ranges of the weights alone, or also of
// the activations.
enum class Equalization { kNone, kWeights, kActivations };
constexpr auto enum_names(Equalization) {
  return make_enum_names<Equalization>("equalization",
                                       {{Equalization::kNone, "none"},
                                        {Equalization::kWeights, "weights"},
                                        {Equalization::kActivations, "activations"}});
}

enum class Rounding { kNearest, kAdaRound };
constexpr auto enum_names(Rounding) {
  return make_enum_names<Rounding>(
      "rounding", {{Rounding::kNearest, "nearest"}, {Rounding::kAdaRound, "adaround"}});
}

struct PtqConfig {
  Method method = Method::kMse;  // for activations
  double percentile = 99.99;     // of |x|, for Method::kPercentile
  int64_t images = 64;           // at most; the source may have fewer
  int64_t bins = 2048;
  // The device for calibration. Equalization by activations, correction, learned rounding and the
  // report's noise run on the host.
  Device device = Device::kCpu;
  WeightMethod weights = WeightMethod::kMax;  // for each channel
  // One scale per weight tensor, activations by max: the usual meaning of naive PTQ. `method` is
  // ignored then.
  bool naive = false;
  // No unsigned activations, for runtimes without them (TensorRT). Layers that read the image stay in
  // float: signed, its bytes would lose a bit.
  bool signed_ranges = false;
  bool split_identity = true;  // quant/ptq/split_identity.h; not when naive
  Equalization equalize = Equalization::kNone;
  bool bias_correction = false;
  Rounding rounding = Rounding::kNearest;
  std::vector<std::string> float_layers = {};  // names or patterns (* and ?) of float layers
  EqualizeConfig equalization = {};
  RoundingConfig adaround = {};
  int64_t layer_images = 64;  // of `images`, kept in memory for the layer-wise methods
  uint64_t seed = 1;          // for the pixels that learned rounding samples
};

// Returns the next batch: u8 [N,H,W,3], letterboxed exactly as in deployment (clean, not
// augmented); all of one size. An empty Tensor ends the calibration. Batch size and order of the
// images do not affect the ranges.
using ImageSource = std::function<Tensor()>;

struct PtqGroup {
  std::vector<std::string> tensors;
  bool is_unsigned = false;
  float amax = 0;      // the chosen range: the largest of its tensors' choices
  float observed = 0;  // largest |x| seen
};

struct PtqReport {
  std::vector<PtqGroup> groups;
  int64_t images = 0;
  int64_t layers = 0, float_layers = 0;  // convolutions and transposed ones; those of them in float
  int64_t requantizations = 0;           // steps that rescale integers between convolutions; 0
  SplitReport split;
  EqualizeReport equalization;       // zeros unless asked for
  LayerCorrectionReport refinement;  // zeros unless asked for
  // SQNR of the head's outputs on layer_images, in dB, with rounding to nearest and no correction,
  // and at the end; see quant/ptq/layer_correction.h.
  double sqnr_before = 0;
  double sqnr = 0;
  double equalize_seconds = 0, calibrate_seconds = 0, refine_seconds = 0;
  // The float graph behind the result: equalized and with identities split, but neither corrected
  // nor rounded.
  deploy::Graph exact;
};

// `graph` must be fused. Returns it with a range on every tensor except the inputs of decode, and
// weight scales on every convolution. Each tensor has a collector of its own; a group takes the
// largest of its tensors' choices, since clipping one of a concat's inputs for the sake of another
// costs more than a coarser step. In nodes of precision kFloat32 and those matched by
// config.float_layers, only equalization and the split change weights and biases. Shows progress on
// stderr. Throws Error for a name that matches no layer, no images, or values that are not finite
// (naming the tensor).
deploy::Graph quantize(const deploy::Graph& graph, const ImageSource& source,
                       const PtqConfig& config, PtqReport* report = nullptr);

}  // namespace sextant::quant
