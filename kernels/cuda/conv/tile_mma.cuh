// SPDX-License-Identifier: Apache-2.0
// A warp's part of a block's matrix product, from operand tiles in shared memory.
//
// An operand tile is an array of 16-byte chunks, swizzled so that no access has a bank conflict:
//   along k:    row i of the operand's 64 bytes of k, i below kM (or kN)
//   across k:   for each of the 64 / sizeof(Element) k, the kM (or kN) elements side by side
// "Along" is what a tensor contiguous in k gives (ldmatrix), "across" one that is contiguous in the
// other index (ldmatrix.trans for 16 bits, single loads for 32). Along k, all element types have
// the same byte layout: an mma takes 32 bytes of k, whatever they hold.
//
// A Math says what to do with fragments: Element (as in memory, raw), Accumulator, kSteps (products
// over k in a tile), fragments FragmentA (16 rows) and FragmentB (8 columns), load_a, load_b and
// multiply. Whatever the Math, a lane with g = lane / 4 and t = lane % 4 owns of a 16 x 8 product
// rows g and g + 8, columns 2 t and 2 t + 1.
#pragma once

#include "kernels/cuda/conv/mma.cuh"

namespace sextant::kernels::cuda {

inline constexpr int kTileRowBytes = 64;
inline constexpr int kChunkBytes = 16;

// Where chunk `chunk` of row `row` of a tile lies, in chunks. Eight consecutive rows of one chunk
// fall into eight different sixteen-byte bank groups.
__host__ __device__ __forceinline__ int chunk_along_k(int row, int chunk) {
  return row * (kTileRowBytes / kChunkBytes) + (chunk ^ (row >> 1 & 3));
}
// `chunks` in a row, 4 or more. 16-bit: as above. 32-bit: the 8 elements of two neighbouring chunks
// of four consecutive rows fall into 32 different banks.
template <int kElementBytes>
__host__ __device__ __forceinline__ int chunk_across_k(int k, int chunk, int chunks) {
  if constexpr (kElementBytes == 4)
    return k * chunks + (chunk ^ (k & 3) << 1);
  else if (chunks >= 8)
    return k * chunks + (chunk ^ (k & 7));
  else
    return k * chunks + (chunk ^ (k >> 1 & 3));
}

// The operand tile and its layout.
template <class Element, bool kAlong, int kExtent>
struct OperandTile {
  const unsigned char* base;
  static constexpr bool kAlongK = kAlong;
  static constexpr int kChunks = kExtent * static_cast<int>(sizeof(Element)) / kChunkBytes;

  __device__ __forceinline__ const unsigned char* chunk(int row, int chunk_in_row) const {
    if constexpr (kAlong)
      return base + chunk_along_k(row, chunk_in_row) * kChunkBytes;
    else
      return base + chunk_across_k<sizeof(Element)>(row, chunk_in_row, kChunks) * kChunkBytes;
  }
  __device__ __forceinline__ const Element* slot(int i, int k) const {
    constexpr int kPer = kChunkBytes / static_cast<int>(sizeof(Element));
    const int row = kAlong ? i : k, column = kAlong ? k : i;
    return reinterpret_cast<const Element*>(chunk(row, column / kPer)) + column % kPer;
  }
  __device__ __forceinline__ Element element(int i, int k) const { return *slot(i, k); }
};

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x % 32); }

// 16 rows of A from `row`, step `step` of k: the four registers of an mma.
template <class Tile>
__device__ __forceinline__ void load_registers_a(uint32_t (&r)[4], const Tile& tile, int row,
                                                 int step) {
  const int lane = lane_id();
  if constexpr (Tile::kAlongK) {
    ldmatrix_x4(r, tile.chunk(row + (lane & 15), 2 * step + (lane >> 4)));
  } else {
    const int k = 16 * step + (lane & 7) + (lane >> 4 << 3);
    ldmatrix_x4_trans(r, tile.chunk(k, (row >> 3) + (lane >> 3 & 1)));
  }
}
// 16 columns of B from `column`: the registers of two mmas.
template <class Tile>
__device__ __forceinline__ void load_registers_b(uint32_t (&r)[4], const Tile& tile, int column,
                                                 int step) {
  const int lane = lane_id();
  if constexpr (Tile::kAlongK) {
    const int row = column + (lane & 7) + (lane >> 4 << 3);
    ldmatrix_x4(r, tile.chunk(row, 2 * step + (lane >> 3 & 1)));
  } else {
    const int k = 16 * step + (lane & 15);
    ldmatrix_x4_trans(r, tile.chunk(k, (column >> 3) + (lane >> 4)));
  }
}

struct MmaF16 {
  __device__ __forceinline__ void operator()(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) const {
    mma_f16(d, a, b);
  }
};
struct MmaBF16 {
  __device__ __forceinline__ void operator()(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) const {
    mma_bf16(d, a, b);
  }
};
struct MmaS8 {
  __device__ __forceinline__ void operator()(int (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) const {
    mma_s8s8(d, a, b);
  }
};
struct MmaU8 {
  __device__ __forceinline__ void operator()(int (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) const {
    mma_u8s8(d, a, b);
  }
};

// Types that are multiplied as they lie in memory.
template <class E, class Acc, class Mma>
struct DirectMath {
  using Element = E;
  using Accumulator = Acc;
  static constexpr int kSteps = 2;
  struct FragmentA {
    uint32_t r[4];
  };
  struct FragmentB {
    uint32_t r[2];
  };
  template <class Tile>
  __device__ __forceinline__ static void load_a(FragmentA& f, const Tile& tile, int row, int step) {
    load_registers_a(f.r, tile, row, step);
  }
  // Two fragments: columns `column` to `column` + 15.
  template <class Tile>
  __device__ __forceinline__ static void load_b(FragmentB* f, const Tile& tile, int column,
                                                int step) {
    uint32_t r[4];
    load_registers_b(r, tile, column, step);
    f[0] = {{r[0], r[1]}};
    f[1] = {{r[2], r[3]}};
  }
  __device__ __forceinline__ static void multiply(Acc (&d)[4], const FragmentA& a,
                                                  const FragmentB& b) {
    Mma{}(d, a.r, b.r);
  }
};
using F16Math = DirectMath<__half, float, MmaF16>;
using BF16Math = DirectMath<__nv_bfloat16, float, MmaBF16>;
using S8Math = DirectMath<int8_t, int, MmaS8>;
using U8Math = DirectMath<uint8_t, int, MmaU8>;  // of A; B is s8

// f32 as the sum of two tf32, high and low: three products, low times low left out. An error of
// about 2^-22 relative to each product. A tensor core rounds its sums toward zero, which over many
// steps adds up to a bias, so it sums eight terms only; steps are added in f32.
struct TF32x3Math {
  using Element = float;
  using Accumulator = float;
  static constexpr int kSteps = 2;
  template <int kRegisters>
  struct Split {
    uint32_t high[kRegisters], low[kRegisters];
    __device__ __forceinline__ void set(int i, float v) {
      high[i] = to_tf32(v);
      low[i] = to_tf32(v - __int_as_float(static_cast<int>(high[i])));
    }
    __device__ __forceinline__ void set(int i, uint32_t bits) {
      set(i, __int_as_float(static_cast<int>(bits)));
    }
  };
  using FragmentA = Split<4>;
  using FragmentB = Split<2>;
  template <class Tile>
  __device__ __forceinline__ static void load_a(FragmentA& f, const Tile& tile, int row, int step) {
    if constexpr (Tile::kAlongK) {
      uint32_t r[4];
      load_registers_a(r, tile, row, step);
#pragma unroll
      for (int i = 0; i < 4; ++i) f.set(i, r[i]);
    } else {
      const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
      for (int i = 0; i < 4; ++i)
        f.set(i, tile.element(row + g + 8 * (i & 1), 8 * step + t + 4 * (i >> 1)));
    }
  }
  template <class Tile>
  __device__ __forceinline__ static void load_b(FragmentB* f, const Tile& tile, int column,
                                                int step) {
    if constexpr (Tile::kAlongK) {
      uint32_t r[4];
      load_registers_b(r, tile, column, step);
#pragma unroll
      for (int i = 0; i < 4; ++i) f[i >> 1].set(i & 1, r[i]);
    } else {
      const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
      for (int i = 0; i < 4; ++i)
        f[i >> 1].set(i & 1, tile.element(column + g + 8 * (i >> 1), 8 * step + t + 4 * (i & 1)));
    }
  }
  __device__ __forceinline__ static void multiply(float (&d)[4], const FragmentA& a,
                                                  const FragmentB& b) {
    float sum[4]{};
    mma_tf32(sum, a.low, b.high);
    mma_tf32(sum, a.high, b.low);
    mma_tf32(sum, a.high, b.high);
#pragma unroll
    for (int e = 0; e < 4; ++e) d[e] += sum[e];
  }
};

// Plain f32, without tensor cores: four k a step, 16 fused multiply-adds a product.
struct FmaMath {
  using Element = float;
  using Accumulator = float;
  static constexpr int kSteps = 4;
  struct alignas(16) Four {
    float k[4];
  };
  struct Fragment {
    Four v[2];  // rows g and g + 8, or columns 2 t and 2 t + 1
  };
  using FragmentA = Fragment;
  using FragmentB = Fragment;
  template <class Tile>
  __device__ __forceinline__ static void load(Four& f, const Tile& tile, int i, int step) {
    if constexpr (Tile::kAlongK) {
      f = *reinterpret_cast<const Four*>(tile.chunk(i, step));
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) f.k[e] = tile.element(i, 4 * step + e);
    }
  }
  template <class Tile>
  __device__ __forceinline__ static void load_a(FragmentA& f, const Tile& tile, int row, int step) {
    load(f.v[0], tile, row + lane_id() / 4, step);
    load(f.v[1], tile, row + lane_id() / 4 + 8, step);
  }
  template <class Tile>
  __device__ __forceinline__ static void load_b(FragmentB* f, const Tile& tile, int column,
                                                int step) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      load(f[i >> 1].v[i & 1], tile, column + 8 * (i >> 1) + 2 * (lane_id() % 4) + (i & 1), step);
  }
  __device__ __forceinline__ static void multiply(float (&d)[4], const FragmentA& a,
                                                  const FragmentB& b) {
#pragma unroll
    for (int e = 0; e < 4; ++e)
#pragma unroll
      for (int k = 0; k < 4; ++k) d[e] = fmaf(a.v[e >> 1].k[k], b.v[e & 1].k[k], d[e]);
  }
};

}  // namespace sextant::kernels::cuda
