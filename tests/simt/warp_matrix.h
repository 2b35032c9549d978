// SPDX-License-Identifier: Apache-2.0
// The tensor-core vocabulary of kernels/cuda/conv/mma.cuh on the host: asynchronous copies,
// ldmatrix and mma with the fragment layouts of the PTX ISA ("Matrix multiply-accumulate
// instructions").
//
// ldmatrix and mma are warp functions: all 32 lanes have to reach the same one. A lane's registers
// hold exactly what they hold on the device, so a wrong index gives a wrong product. An mma adds
// its products in double and rounds once, toward zero; the order within it is the device's own.
//
// A cp.async fills its destination with 0xFF at once and copies when its group is waited for: a
// missing wait shows, and so does a copy into memory that others still read.
#pragma once

#include <cstdint>

#include "simt/simt.h"

namespace simt {

// `bytes` is 4, 8 or 16. Unless `valid`, zeros are written and `global` is not read.
void cp_async(int bytes, void* shared, const void* global, bool valid,
              const Site& site = Site::current());
void cp_async_commit();
// Waits for all groups but the `newest` last ones.
void cp_async_wait(int newest);

// Four 8x8 matrices of 16-bit elements; lane 8 i + r gives the address of row r of matrix i.
void ldmatrix_x4(uint32_t (&r)[4], const void* row, const Site& site = Site::current());
void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, const Site& site = Site::current());

// d += a b for a warp's 16 x 8 tile of d: m16n8k16, m16n8k8 (tf32), m16n8k32 (int8).
void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
             const Site& site = Site::current());
void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
              const Site& site = Site::current());
void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
              const Site& site = Site::current());
void mma_s8s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
              const Site& site = Site::current());
void mma_u8s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
              const Site& site = Site::current());

// Nearest tf32, ties away from zero (cvt.rna).
uint32_t to_tf32(float f);

}  // namespace simt
