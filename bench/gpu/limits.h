// SPDX-License-Identifier: Apache-2.0
// The peak rates of this GPU, to compare with the figures of our kernels.
#pragma once

#include "core/config.h"

namespace sextant::bench {

// "copy_gb_s": a copy within the device, bytes read and written; "gemm_f32_tflops" (without TF32),
// "gemm_f16_tflops" (sums in f32) and "gemm_int8_tops" (sums in i32): cuBLAS on 8192^3. The best of
// several rounds.
Json measure_limits();

// Name, driver, CUDA version, memory, clocks now and at most (as nvidia-smi gives them; absent
// without it).
Json describe_device();

}  // namespace sextant::bench
