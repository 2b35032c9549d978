// SPDX-License-Identifier: Apache-2.0
// Compares our convolutions with cuDNN's, layer by layer.
#pragma once

#include <string>

#include "core/config.h"

namespace sextant::bench {

// For every convolution of the deployed model `preset` ("yolov6n_opt") at `size` px: forward and
// both gradients in f16, forward in int8. A row each: "layer", "what" (the key of
// kernels/conv_choice.h), "count" in the model, "gflop", microseconds of both, their rates, and why
// cuDNN could not be taken, if so. Without cuDNN only ours.
Json measure_convolutions(const std::string& preset, int64_t batch, int64_t size);

}  // namespace sextant::bench
