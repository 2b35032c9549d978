// Element types as files have them, as the f32 that the rest computes with.
#pragma once

#include "core/tensor.h"

namespace sextant {

// f16, bf16 and f64 as f32; any other type as it is, sharing the memory.
Tensor to_f32(const Tensor& t);

}  // namespace sextant
