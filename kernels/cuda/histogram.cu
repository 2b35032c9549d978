// SPDX-License-Identifier: Apache-2.0
// The largest |x| and histograms of |x|. Bound by memory. All sums and maxima are of integers, so
// atomics give one result in any order.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/histogram.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSharedBins = 8192;  // 32 KiB of a block's shared memory

__device__ __forceinline__ uint32_t abs_bits(float x) {
  return static_cast<uint32_t>(__float_as_int(x)) & 0x7FFFFFFFu;
}

// Calls f(x) for the values of this thread's share of x[begin, end), in packs where they are
// aligned: `first` of `threads` threads.
template <class F>
__device__ __forceinline__ void each_value(const float* x, int64_t n, bool packed, int64_t first,
                                           int64_t threads, const F& f) {
  const int64_t packs = packed ? n / kPackWidth : 0;
#pragma unroll 2
  for (int64_t i = first; i < packs; i += threads) {
    const Pack<kPackWidth> value = load<kPackWidth>(x + i * kPackWidth);
#pragma unroll
    for (int v = 0; v < kPackWidth; ++v) f(value.v[v]);
  }
  for (int64_t i = packs * kPackWidth + first; i < n; i += threads) f(x[i]);
}

// Per tensor: the maximum of all blocks.
__global__ void __launch_bounds__(kThreads)
    abs_max_kernel(const float* x, int64_t n, bool packed, uint32_t* bits) {
  SEXTANT_SHARED(uint32_t[1], largest);
  if (threadIdx.x == 0) largest[0] = 0;
  __syncthreads();
  uint32_t mine = 0;
  each_value(x, n, packed, static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x,
             static_cast<int64_t>(gridDim.x) * kThreads, [&](float v) {
               const uint32_t b = abs_bits(v);
               mine = b > mine ? b : mine;
             });
  for (int d = warpSize / 2; d > 0; d /= 2) {
    const uint32_t other = __shfl_xor_sync(0xffffffffu, mine, d);
    mine = other > mine ? other : mine;
  }
  if (threadIdx.x % warpSize == 0) atomicMax(&largest[0], mine);
  __syncthreads();
  if (threadIdx.x == 0) atomicMax(bits, largest[0]);
}

// Per channel: a warp a row of `inner` values.
__global__ void __launch_bounds__(kThreads)
    channel_max_kernel(const float* x, int64_t rows, int64_t channels, int64_t inner,
                       uint32_t* bits) {
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / warpSize);
  int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / warpSize) +
                static_cast<int64_t>(threadIdx.x) / warpSize;
  for (; row < rows; row += warps) {
    uint32_t mine = 0;
    for (int64_t i = lane; i < inner; i += warpSize) {
      const uint32_t b = abs_bits(x[row * inner + i]);
      mine = b > mine ? b : mine;
    }
    for (int d = warpSize / 2; d > 0; d /= 2) {
      const uint32_t other = __shfl_xor_sync(0xffffffffu, mine, d);
      mine = other > mine ? other : mine;
    }
    if (lane == 0) atomicMax(bits + row % channels, mine);
  }
}

// Channels last: a thread keeps to one channel where it can, each row is read by whole warps.
__global__ void __launch_bounds__(kThreads)
    last_channel_max_kernel(const float* x, int64_t rows, int64_t channels, uint32_t* bits) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (channel >= channels) return;
  uint32_t mine = 0;
#pragma unroll 4
  for (int64_t r = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; r < rows;
       r += static_cast<int64_t>(gridDim.y) * blockDim.y) {
    const uint32_t b = abs_bits(x[r * channels + channel]);
    mine = b > mine ? b : mine;
  }
  atomicMax(bits + channel, mine);
}

using Count = unsigned long long;

struct Bins {
  float range, bins, last;
  __device__ __forceinline__ int of(float x) const {
    const float place = fabsf(x) / range * bins;
    return static_cast<int>(place < last ? place : last);
  }
};

// kShared: each block counts into a table of its own first. Bin 0 is counted in registers: after a
// ReLU it takes half the values, and additions to one counter wait for each other.
template <bool kShared>
__global__ void __launch_bounds__(kThreads)
    count_kernel(const float* x, int64_t n, bool packed, Bins bins, Count* counts) {
  SEXTANT_DYNAMIC_SHARED(uint32_t, table);
  const int size = static_cast<int>(bins.bins);
  if constexpr (kShared) {
    for (int b = static_cast<int>(threadIdx.x); b < size; b += kThreads) table[b] = 0;
    __syncthreads();
  }
  uint32_t zeros = 0;  // a block's share is below 2^32
  each_value(x, n, packed, static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x,
             static_cast<int64_t>(gridDim.x) * kThreads, [&](float v) {
               const int bin = bins.of(v);
               if (bin == 0) {
                 ++zeros;
               } else if constexpr (kShared) {
                 atomicAdd(table + bin, 1u);
               } else {
                 atomicAdd(counts + bin, Count{1});
               }
             });
  for (int d = warpSize / 2; d > 0; d /= 2) zeros += __shfl_xor_sync(0xffffffffu, zeros, d);
  const bool speaks = threadIdx.x % warpSize == 0;
  if constexpr (kShared) {
    if (speaks) atomicAdd(table, zeros);
    __syncthreads();
    for (int b = static_cast<int>(threadIdx.x); b < size; b += kThreads)
      if (table[b] != 0) atomicAdd(counts + b, Count{table[b]});
  } else {
    if (speaks && zeros != 0) atomicAdd(counts, Count{zeros});
  }
}

}  // namespace

void abs_max(const AbsMax& p, void*, Stream stream) {
  const int64_t rows = p.outer * p.channels;
  if (rows * p.inner == 0) return;
  if (p.channels == 1) {
    const int64_t n = rows * p.inner;
    launch(SEXTANT_KERNEL(abs_max_kernel), grid_stride_blocks(n / kPackWidth + 1, kThreads),
           kThreads, 0, stream, p.x, n, aligned_to_pack({p.x}), p.bits);
  } else if (p.inner == 1) {
    const unsigned lanes = p.channels < kHostWarp ? kHostWarp / 2 : kHostWarp;
    const dim3 block(lanes, kThreads / lanes);
    const auto tiles = static_cast<unsigned>((p.channels + lanes - 1) / lanes);
    const unsigned blocks = grid_stride_blocks(p.outer * lanes, kThreads);
    launch(SEXTANT_KERNEL(last_channel_max_kernel),
           dim3(tiles, std::max(1u, std::min(blocks / tiles, 65535u))), block, 0, stream, p.x,
           p.outer, p.channels, p.bits);
  } else {
    launch(SEXTANT_KERNEL(channel_max_kernel), grid_stride_blocks(rows * kHostWarp, kThreads),
           kThreads, 0, stream, p.x, rows, p.channels, p.inner, p.bits);
  }
}

void count_bins(const CountBins& p, void*, Stream stream) {
  check(p.range > 0 && p.bins > 0 && p.bins < (int64_t{1} << 24),
        "count_bins: range {} and {} bins; the range must be > 0, the bins fewer than 2^24",
        p.range, p.bins);
  if (p.n == 0) return;
  const auto bins = static_cast<float>(p.bins);
  const Bins of{p.range, bins, bins - 1.0f};
  auto* counts = reinterpret_cast<Count*>(p.counts);
  const bool packed = aligned_to_pack({p.x});
  const unsigned blocks = grid_stride_blocks(p.n / kPackWidth + 1, kThreads);
  if (p.bins <= kSharedBins)
    launch(SEXTANT_KERNEL(count_kernel<true>), blocks, kThreads,
           static_cast<size_t>(p.bins) * sizeof(uint32_t), stream, p.x, p.n, packed, of, counts);
  else
    launch(SEXTANT_KERNEL(count_kernel<false>), blocks, kThreads, 0, stream, p.x, p.n, packed, of,
           counts);
}

}  // namespace sextant::kernels::cuda
