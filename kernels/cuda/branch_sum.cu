// SPDX-License-Identifier: Apache-2.0
// Sums of scaled branches, and the gradient of their scales.
#include "kernels/branch_sum.h"
#include "kernels/cuda/device/each.cuh"

namespace sextant::kernels::cuda {
namespace {

template <class T, int kWidth>
struct BranchSumOp {
  const T* x[kMaxSummands];
  const float* scale[kMaxSummands];
  int branches;
  T* y;
  Divider<uint32_t> pieces;

  explicit BranchSumOp(const BranchSum& p)
      : branches(p.branches), y(static_cast<T*>(p.y)), pieces(p.channels / kWidth) {
    for (size_t b = 0; b < kMaxSummands; ++b) {
      x[b] = static_cast<const T*>(p.x[b]);
      scale[b] = p.scale[b];
    }
  }
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const int64_t at = static_cast<int64_t>(i) * kWidth;
    const int channel = static_cast<int>(pieces.remainder(i)) * kWidth;
    Pack<kWidth> sum{};
#pragma unroll
    for (int b = 0; b < kMaxSummands; ++b) {
      if (b >= branches) break;
      const Pack<kWidth> value = load<kWidth>(x[b] + at);
      Pack<kWidth> factor;
      if (scale[b] != nullptr) {
        factor = load<kWidth>(scale[b] + channel);
      } else {
#pragma unroll
        for (int v = 0; v < kWidth; ++v) factor.v[v] = 1.0f;
      }
#pragma unroll
      for (int v = 0; v < kWidth; ++v) sum.v[v] += factor.v[v] * value.v[v];
    }
    store<kWidth>(y + at, sum);
  }
};

// --- gradient of a scale ------------------------------------------------------------------------

constexpr int kDotChannels = 32;
constexpr int kDotLanes = 8;
constexpr int64_t kRowsPerChunk = 256;
constexpr int64_t kMaxChunks = 256;

struct Chunks {
  int64_t count, rows;
};
// Depends on the shape alone.
Chunks chunks_of(const ChannelDot& p) {
  const int64_t count = std::clamp<int64_t>(p.rows / kRowsPerChunk, 1, kMaxChunks);
  return {count, (p.rows + count - 1) / count};
}

// partial[chunk][channel]: blockIdx.x is the tile of channels, blockIdx.y the chunk.
template <class T, int kLanes>
__global__ void __launch_bounds__(kDotChannels* kLanes)
    dot_kernel(const T* a, const T* b, double* partial, int64_t rows, int channels,
               int64_t rows_per_chunk) {
  SEXTANT_SHARED(double[kLanes][kDotChannels], lanes);
  const int channel = static_cast<int>(blockIdx.x) * kDotChannels + static_cast<int>(threadIdx.x);
  const int64_t begin = blockIdx.y * rows_per_chunk;
  const int64_t end = begin + rows_per_chunk < rows ? begin + rows_per_chunk : rows;
  double sum = 0.0;
  if (channel < channels) {
#pragma unroll 4
    for (int64_t r = begin + threadIdx.y; r < end; r += kLanes) {
      const int64_t at = r * channels + channel;
      const double factor = b != nullptr ? static_cast<double>(as_float(b[at])) : 1.0;
      sum += static_cast<double>(as_float(a[at])) * factor;
    }
  }
  lanes[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || channel >= channels) return;
#pragma unroll
  for (int lane = 1; lane < kLanes; ++lane) sum += lanes[lane][threadIdx.x];
  partial[static_cast<int64_t>(blockIdx.y) * channels + channel] = sum;
}

struct FinishDotOp {
  const double* partial;
  float* out;
  int64_t chunks, channels;
  __device__ __forceinline__ void operator()(uint32_t channel) const {
    double sum = 0.0;
    for (int64_t k = 0; k < chunks; ++k) sum += partial[k * channels + channel];
    out[channel] = static_cast<float>(sum);
  }
};

}  // namespace

void branch_sum(const BranchSum& p, void*, Stream stream) {
  check(p.branches >= 1 && p.branches <= kMaxSummands, "branch_sum: {} branches, must be 1 to {}",
        p.branches, kMaxSummands);
  const int64_t n = p.rows * p.channels;
  bool aligned = aligned_to_pack({p.y});
  for (size_t b = 0; b < static_cast<size_t>(p.branches); ++b)
    aligned = aligned && aligned_to_pack({p.x[b], p.scale[b]});
  dispatch_float("branch_sum", p.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int kWidth = kPackOf<T>;
    if (n <= 0) return;
    if (aligned && p.channels % kWidth == 0)
      for_each_item("branch_sum", BranchSumOp<T, kWidth>(p), n / kWidth, stream);
    else
      for_each_item("branch_sum", BranchSumOp<T, 1>(p), n, stream);
  });
}

int64_t workspace_bytes(const ChannelDot& p) {
  return chunks_of(p).count * p.channels * static_cast<int64_t>(sizeof(double));
}

void channel_dot(const ChannelDot& p, void* workspace, Stream stream) {
  if (p.channels <= 0) return;
  const Chunks chunks = chunks_of(p);
  auto* partial = static_cast<double*>(workspace);
  const dim3 grid(static_cast<unsigned>((p.channels + kDotChannels - 1) / kDotChannels),
                  static_cast<unsigned>(chunks.count));
  dispatch_float("channel_dot", p.dtype, [&](auto type) {
    using T = decltype(type);
    launch(SEXTANT_KERNEL(dot_kernel<T, kDotLanes>), grid, dim3(kDotChannels, kDotLanes), 0, stream,
           static_cast<const T*>(p.a), static_cast<const T*>(p.b), partial, p.rows,
           static_cast<int>(p.channels), chunks.rows);
  });
  for_each_item("channel_dot", FinishDotOp{partial, p.out, chunks.count, p.channels}, p.channels,
                stream);
}

}  // namespace sextant::kernels::cuda
