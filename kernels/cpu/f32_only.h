// SPDX-License-Identifier: Apache-2.0
// Checks in the CPU's kernels against types that only a device supports.
#pragma once

#include "core/dtype.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {

inline void check_f32(const char* name, DType dtype) {
  check(dtype == DType::kF32, "{}: dtype {}, must be F32 on the CPU", name, name_of(dtype));
}

// A tensor of a kernel's parameters, after check_f32().
inline const float* f32(const void* p) { return static_cast<const float*>(p); }
inline float* f32(void* p) { return static_cast<float*>(p); }

}  // namespace sextant::kernels::SEXTANT_CPU
