// SPDX-License-Identifier: Apache-2.0
// Conversion between f32 and the 16-bit floating-point types, and from f64 to f32 (from a kernel's
// sum to a loss), rounding to nearest even.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace sextant::kernels {

// One of the two types is F32 and the other F16 or BF16, or it converts F64 to F32. Throws Error
// for other types.
struct Cast {
  const void* from = nullptr;
  DType from_type = DType::kF32;
  void* to = nullptr;
  DType to_type = DType::kF16;
  int64_t n = 0;
};

}  // namespace sextant::kernels
