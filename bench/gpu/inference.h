// SPDX-License-Identifier: Apache-2.0
// Images per second of the engine on CUDA.
#pragma once

#include <string>

#include "core/config.h"

namespace sextant::bench {

// Rows for fp32, fp16 and int8 at batches 1 and 32, `size` px: from images on the device to decoded
// boxes on the device.
Json measure_inference(const std::string& preset, int64_t size);

}  // namespace sextant::bench
