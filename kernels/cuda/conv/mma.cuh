// SPDX-License-Identifier: Apache-2.0
// The tensor-core instructions, each under one name: matrix multiply-accumulate of a warp's
// 16 x 8 tile, ldmatrix, and asynchronous copies to shared memory. sm_80 and later; on the SIMT
// runner simt/warp_matrix.h supplies the same functions, where they are also described.
#pragma once

#include "kernels/cuda/device/half.cuh"

#if defined(SEXTANT_SIMT)
#include "simt/warp_matrix.h"
#endif

namespace sextant::kernels::cuda {

#if defined(SEXTANT_SIMT)
using ::simt::cp_async;
using ::simt::cp_async_commit;
using ::simt::ldmatrix_x4;
using ::simt::ldmatrix_x4_trans;
using ::simt::mma_bf16;
using ::simt::mma_f16;
using ::simt::mma_s8s8;
using ::simt::mma_tf32;
using ::simt::mma_u8s8;
using ::simt::to_tf32;
template <int kNewest>
void cp_async_wait() {
  ::simt::cp_async_wait(kNewest);
}
#else

__device__ __forceinline__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// `bytes` has to be a constant after inlining. 16-byte copies pass L1 by.
__device__ __forceinline__ void cp_async(int bytes, void* shared, const void* global, bool valid) {
  const unsigned to = shared_address(shared);
  const int read = valid ? bytes : 0;
  if (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(read)
                 : "memory");
  else if (bytes == 8)
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(global), "r"(read)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(global), "r"(read)
                 : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kNewest>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kNewest) : "memory");
}

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

#define SEXTANT_MMA(name, D, constraint, instruction)                                            \
  __device__ __forceinline__ void name(D(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) { \
    asm volatile("mma.sync.aligned." instruction                                                 \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"              \
                 : "+" constraint(d[0]), "+" constraint(d[1]), "+" constraint(d[2]),             \
                   "+" constraint(d[3])                                                          \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));            \
  }
SEXTANT_MMA(mma_f16, float, "f", "m16n8k16.row.col.f32.f16.f16.f32")
SEXTANT_MMA(mma_bf16, float, "f", "m16n8k16.row.col.f32.bf16.bf16.f32")
SEXTANT_MMA(mma_tf32, float, "f", "m16n8k8.row.col.f32.tf32.tf32.f32")
SEXTANT_MMA(mma_s8s8, int, "r", "m16n8k32.row.col.s32.s8.s8.s32")
SEXTANT_MMA(mma_u8s8, int, "r", "m16n8k32.row.col.s32.u8.s8.s32")
#undef SEXTANT_MMA

__device__ __forceinline__ uint32_t to_tf32(float f) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(f));
  return r;
}
#endif

}  // namespace sextant::kernels::cuda
