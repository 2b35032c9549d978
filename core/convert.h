// SPDX-License-Identifier: Apache-2.0
// Converts the element types found in files to f32, which everything else computes with.
#pragma once

#include "core/tensor.h"

namespace sextant {

// f16, bf16 and f64 as f32; any other type as it is, sharing the memory.
Tensor to_f32(const Tensor& t);

}  // namespace sextant
