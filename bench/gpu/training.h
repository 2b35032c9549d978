// SPDX-License-Identifier: Apache-2.0
// Images per second of a training step on CUDA.
#pragma once

#include <string>

#include "core/config.h"

namespace sextant::bench {

// Rows for fp32, fp16 and bf16, whose passes are replayed as a CUDA graph, and for fp16 without:
// from bytes on the device to updated weights and averages, the step that bench/peers/gpu.py takes
// in PyTorch (80 classes, 14 boxes an image). Throws Error for an unknown preset.
Json measure_training(const std::string& preset, int64_t batch, int64_t size);

}  // namespace sextant::bench
