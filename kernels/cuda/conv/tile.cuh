// SPDX-License-Identifier: Apache-2.0
// The convolution's matrix product: out(i, j) = sum over k of a(i, k) b(j, k), one block per tile.
//
// Operand tiles pass through kStages buffers in shared memory, filled by cp.async while earlier
// ones are multiplied, with one barrier per tile. The accumulators go through shared memory once
// more, so that the epilogue sees eight neighbouring columns a thread and writes whole lines. Each
// sum runs over k in ascending order in the same steps for every tile shape.
#pragma once

#include "kernels/cuda/conv/tile_mma.cuh"

namespace sextant::kernels::cuda {

template <int kRows, int kColumns, int kWarpRows, int kWarpColumns, int kMinBlocks>
struct TileShape {
  static constexpr int kM = kRows, kN = kColumns;
  static constexpr int kWarpM = kWarpRows, kWarpN = kWarpColumns;
  static constexpr int kThreads = 32 * (kM / kWarpM) * (kN / kWarpN);
  static constexpr int kBlocks = kMinBlocks;  // on a multiprocessor, which bounds the registers
  static constexpr int kStages = 4;
  static constexpr int kStageBytes = (kM + kN) * kTileRowBytes;
  static constexpr int kPitch = kN + 8;  // of the accumulators in shared memory: no bank conflicts
  static constexpr size_t kSharedBytes =
      kStages * kStageBytes > kM* kPitch * 4 ? kStages* kStageBytes : kM* kPitch * 4;
};

// One block's loads of one operand.
template <class Source, int kExtent, int kThreads, bool kVector>
struct OperandLoader {
  using Element = typename Source::Element;
  static constexpr bool kAlong = Source::kAlongK;
  static constexpr int kPer = kChunkBytes / static_cast<int>(sizeof(Element));
  static constexpr int kTileK = kTileRowBytes / static_cast<int>(sizeof(Element));
  static constexpr int kChunks = kAlong ? kTileRowBytes / kChunkBytes : kExtent / kPer;  // in a row
  static constexpr int kRowsPerTurn = kThreads / kChunks;
  static constexpr int kTurns = (kAlong ? kExtent : kTileK) / kRowsPerTurn;
  static_assert(kTurns * kRowsPerTurn == (kAlong ? kExtent : kTileK));

  const Source& source;
  const int first;  // i of the tile
  const int row, column;
  typename Source::Fixed fixed[kAlong ? kTurns : 1];

  __device__ __forceinline__ OperandLoader(const Source& s, int first_i)
      : source(s),
        first(first_i),
        row(static_cast<int>(threadIdx.x) / kChunks),
        column(static_cast<int>(threadIdx.x) % kChunks) {
    if constexpr (kAlong) {
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn)
        fixed[turn] = source.fixed(first + row + turn * kRowsPerTurn);
    } else {
      fixed[0] = source.fixed(first + column * kPer);
    }
  }

  // Starts the loads of the tile from k on into `tile`.
  __device__ __forceinline__ void load(unsigned char* tile, int k) const {
    if constexpr (kVector) {
      pieces<16>(tile, k);
    } else {
      if (source.piece == 16)
        pieces<16>(tile, k);
      else if (source.piece == 8)
        pieces<8>(tile, k);
      else if (source.piece == 4)
        pieces<4>(tile, k);
      else
        elements(tile, k);
    }
  }

 private:
  __device__ __forceinline__ unsigned char* chunk(unsigned char* tile, int turn) const {
    const int r = row + turn * kRowsPerTurn;
    if constexpr (kAlong)
      return tile + chunk_along_k(r, column) * kChunkBytes;
    else
      return tile + chunk_across_k<sizeof(Element)>(r, column, kChunks) * kChunkBytes;
  }
  // Element `e` of the chunk of `turn`.
  __device__ __forceinline__ const Element* address(int k, int turn, int e) const {
    if constexpr (kAlong)
      return source.at(fixed[turn], source.moving(k + column * kPer + e));
    else
      return source.at(e == 0 ? fixed[0] : source.fixed(first + column * kPer + e),
                       source.moving(k + row + turn * kRowsPerTurn));
  }
  template <int kBytes>
  __device__ __forceinline__ void pieces(unsigned char* tile, int k) const {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      unsigned char* to = chunk(tile, turn);
#pragma unroll
      for (int at = 0; at < kChunkBytes; at += kBytes) {
        const Element* from = address(k, turn, at / static_cast<int>(sizeof(Element)));
        cp_async(kBytes, to + at, from ? from : source.base, from != nullptr);
      }
    }
  }
  __device__ __forceinline__ void elements(unsigned char* tile, int k) const {
    struct alignas(kChunkBytes) Chunk {
      Element v[kPer];
    };
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      Chunk values;
#pragma unroll
      for (int e = 0; e < kPer; ++e) {
        const Element* from = address(k, turn, e);
        values.v[e] = from ? *from : Element{};
      }
      *reinterpret_cast<Chunk*>(chunk(tile, turn)) = values;
    }
  }
};

template <class Accumulator>
struct alignas(16) EightColumns {
  Accumulator v[8];
};

// Extents of the product. gridDim.x covers rows and columns of tiles, the columns first; gridDim.y
// divides k into slices.
struct ProductSize {
  int m, n, k;
  int column_tiles;
  int k_per_slice;  // a multiple of the tile's k, where there are several slices
};

// Epilogue: write(slice, i, j, columns, eight) takes `columns` (1 to 8) results from (i, j) on.
template <class Math, class Tile, class SourceA, class SourceB, class Epilogue, bool kVector>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    product_kernel(SourceA a, SourceB b, Epilogue epilogue, ProductSize size) {
  using Accumulator = typename Math::Accumulator;
  using Element = typename Math::Element;
  constexpr int kTileK = kTileRowBytes / static_cast<int>(sizeof(Element));
  constexpr int kBytesA = Tile::kM * kTileRowBytes;
  constexpr int kRowMmas = Tile::kWarpM / 16, kColumnMmas = Tile::kWarpN / 8;
  SEXTANT_DYNAMIC_SHARED(unsigned char, shared);

  const int column_tiles = size.column_tiles;
  const int first_row = static_cast<int>(blockIdx.x) / column_tiles * Tile::kM;
  const int first_column = static_cast<int>(blockIdx.x) % column_tiles * Tile::kN;
  const int slice = static_cast<int>(blockIdx.y);
  const int k_begin = slice * size.k_per_slice;
  const int k_end = k_begin + size.k_per_slice < size.k ? k_begin + size.k_per_slice : size.k;
  const int tiles = (k_end - k_begin + kTileK - 1) / kTileK;

  const OperandLoader<SourceA, Tile::kM, Tile::kThreads, kVector> load_a(a, first_row);
  const OperandLoader<SourceB, Tile::kN, Tile::kThreads, kVector> load_b(b, first_column);
  const auto start_tile = [&](int index) {
    if (index < tiles) {
      unsigned char* stage = shared + index % Tile::kStages * Tile::kStageBytes;
      load_a.load(stage, k_begin + index * kTileK);
      load_b.load(stage + kBytesA, k_begin + index * kTileK);
    }
    cp_async_commit();  // an empty group keeps the count
  };

  Accumulator sum[kRowMmas][kColumnMmas][4] = {};
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_row = warp / (Tile::kN / Tile::kWarpN) * Tile::kWarpM;
  const int warp_column = warp % (Tile::kN / Tile::kWarpN) * Tile::kWarpN;
#pragma unroll
  for (int index = 0; index < Tile::kStages - 1; ++index) start_tile(index);
  for (int index = 0; index < tiles; ++index) {
    cp_async_wait<Tile::kStages - 2>();
    __syncthreads();  // the tile has arrived, and all threads have read the previous one
    start_tile(index + Tile::kStages - 1);
    const unsigned char* stage = shared + index % Tile::kStages * Tile::kStageBytes;
    const OperandTile<Element, SourceA::kAlongK, Tile::kM> tile_a{stage};
    const OperandTile<Element, SourceB::kAlongK, Tile::kN> tile_b{stage + kBytesA};
#pragma unroll
    for (int step = 0; step < Math::kSteps; ++step) {
      typename Math::FragmentA fa[kRowMmas];
      typename Math::FragmentB fb[kColumnMmas];
#pragma unroll
      for (int r = 0; r < kRowMmas; ++r) Math::load_a(fa[r], tile_a, warp_row + 16 * r, step);
#pragma unroll
      for (int c = 0; c < kColumnMmas; c += 2)
        Math::load_b(fb + c, tile_b, warp_column + 8 * c, step);
#pragma unroll
      for (int r = 0; r < kRowMmas; ++r)
#pragma unroll
        for (int c = 0; c < kColumnMmas; ++c) Math::multiply(sum[r][c], fa[r], fb[c]);
    }
  }

  cp_async_wait<0>();
  __syncthreads();  // the operands have been read: their memory takes the sums
  struct alignas(8) Pair {
    Accumulator v[2];
  };
  auto* sums = reinterpret_cast<Accumulator*>(shared);
  const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
  for (int r = 0; r < kRowMmas; ++r)
#pragma unroll
    for (int c = 0; c < kColumnMmas; ++c)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        *reinterpret_cast<Pair*>(sums + (warp_row + 16 * r + g + 8 * half) * Tile::kPitch +
                                 warp_column + 8 * c +
                                 2 * t) = {{sum[r][c][2 * half], sum[r][c][2 * half + 1]}};
  __syncthreads();
  constexpr int kGroups = Tile::kN / 8;
#pragma unroll 1  // a second copy of the epilogue costs more in instructions than it saves
  for (int at = static_cast<int>(threadIdx.x); at < Tile::kM * kGroups; at += Tile::kThreads) {
    const int row = at / kGroups, column = at % kGroups * 8;
    const int i = first_row + row, j = first_column + column;
    if (i >= size.m || j >= size.n) continue;
    const auto eight =
        *reinterpret_cast<const EightColumns<Accumulator>*>(sums + row * Tile::kPitch + column);
    epilogue.write(slice, i, j, size.n - j < 8 ? size.n - j : 8, eight);
  }
}

}  // namespace sextant::kernels::cuda
