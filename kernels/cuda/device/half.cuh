// SPDX-License-Identifier: Apache-2.0
// Tensors in f32 or a 16-bit type, with arithmetic in f32.
#pragma once

#include "core/dtype.h"
#include "kernels/cuda/device/launch.h"

#if !defined(SEXTANT_SIMT)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace sextant::kernels::cuda {

// Conversions between a stored element and the float it is computed with.
__device__ __forceinline__ float as_float(float v) { return v; }
__device__ __forceinline__ float as_float(__half v) { return __half2float(v); }
__device__ __forceinline__ float as_float(__nv_bfloat16 v) { return __bfloat162float(v); }
template <class T>
__device__ __forceinline__ T from_float(float v);
template <>
__device__ __forceinline__ float from_float<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float v) {
  return __float2half_rn(v);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}

// Calls f(T{}) with the type that `dtype` is stored in.
template <class F>
void dispatch_float(const char* name, DType dtype, F&& f) {
  if (dtype == DType::kF16) return f(__half{});
  if (dtype == DType::kBF16) return f(__nv_bfloat16{});
  check(dtype == DType::kF32, "{}: dtype {}, must be F32, F16 or BF16", name, name_of(dtype));
  f(float{});
}

}  // namespace sextant::kernels::cuda
