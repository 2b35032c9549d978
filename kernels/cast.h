// Conversion between f32 and the 16-bit floating-point types, and from f64 to f32 (a sum as a
// kernel leaves it, to a loss), rounding to nearest even.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/stream.h"

namespace sextant::kernels {

struct Cast {
  const void* from = nullptr;
  DType from_type = DType::kF32;
  void* to = nullptr;
  DType to_type = DType::kF16;
  int64_t n = 0;
};

// One of the two types is F32, the other F16 or BF16, or F64 to F32; else an Error.
namespace cpu {
void cast(const Cast& p);
}
namespace cuda {
void cast(const Cast& p, Stream stream);
}

}  // namespace sextant::kernels
