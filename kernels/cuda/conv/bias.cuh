// SPDX-License-Identifier: Apache-2.0
// Sums over the slices of a product, and the gradient of a bias: sums over all pixels.
#pragma once

#include "kernels/cuda/conv/launch.cuh"

namespace sextant::kernels::cuda {

// Depends on the shape alone, so that sums have one order everywhere.
inline constexpr int64_t kBlocksWanted = 528;  // four for each of an H200's 132 multiprocessors
inline constexpr int64_t kSliceAtLeast = 128;  // pixels
inline constexpr int64_t kSliceMultiple = kTileRowBytes / 2;  // of every type's tile
inline constexpr int kSliceThreads = 256;
inline constexpr int kBiasChannels = 32, kBiasLanes = 8;  // a block of bias_sums_kernel

struct Slices {
  int64_t pixels, count;
  // Floats that partial sums of n values take.
  int64_t floats(int64_t n) const { return count > 1 ? count * n : 0; }
};
inline Slices slices_of(int64_t pixels, int64_t tiles) {
  const int64_t most = std::max<int64_t>(1, pixels / kSliceAtLeast);
  const int64_t wanted = std::clamp<int64_t>(kBlocksWanted / tiles, 1, most);
  const int64_t each = ceil_div(ceil_div(pixels, wanted), kSliceMultiple) * kSliceMultiple;
  return {each, ceil_div(pixels, each)};
}
inline Slices bias_slices(int64_t pixels, int64_t channels) {
  return slices_of(pixels, ceil_div(channels, kBiasChannels));
}

// out[i] = sum over slices of partial[slice][i]
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    sum_slices_kernel(const float* partial, float* out, int64_t n, int slices) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  float sum = partial[i];
  for (int s = 1; s < slices; ++s) sum += partial[s * n + i];
  out[i] = sum;
}

// out[slice][channel] = sum over the slice's rows of dy [rows, channels]
template <class T>
__global__ void __launch_bounds__(kBiasChannels* kBiasLanes)
    bias_sums_kernel(const T* dy, float* out, int64_t rows, int64_t rows_in_slice, int channels) {
  SEXTANT_SHARED(float[kBiasLanes][kBiasChannels], lanes);
  const int channel = static_cast<int>(blockIdx.x * kBiasChannels + threadIdx.x);
  const int64_t begin = blockIdx.y * rows_in_slice;
  const int64_t end = begin + rows_in_slice < rows ? begin + rows_in_slice : rows;
  float sum = 0.0f;
  if (channel < channels) {
#pragma unroll 4
    for (int64_t r = begin + threadIdx.y; r < end; r += kBiasLanes)
      sum += as_float(dy[r * channels + channel]);
  }
  lanes[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || channel >= channels) return;
  for (int lane = 1; lane < kBiasLanes; ++lane) sum += lanes[lane][threadIdx.x];
  out[static_cast<int64_t>(blockIdx.y) * channels + channel] = sum;
}

inline void sum_slices(const float* partial, float* out, int64_t n, int64_t slices, Stream stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(n, kSliceThreads)));
  launch(SEXTANT_KERNEL(sum_slices_kernel<kSliceThreads>), grid, kSliceThreads, 0, stream, partial,
         out, n, static_cast<int>(slices));
}

inline int64_t bias_gradient_workspace(int64_t pixels, int64_t channels) {
  return bias_slices(pixels, channels).floats(channels) * static_cast<int64_t>(sizeof(float));
}

// db = the sum over the pixels of dy [pixels, channels].
template <class T>
void bias_gradient(const T* dy, int64_t pixels, int64_t channels, float* db, float* partial,
                   Stream stream) {
  const Slices slices = bias_slices(pixels, channels);
  launch(SEXTANT_KERNEL(bias_sums_kernel<T>),
         dim3(static_cast<unsigned>(ceil_div(channels, kBiasChannels)),
              static_cast<unsigned>(slices.count)),
         dim3(kBiasChannels, kBiasLanes), 0, stream, dy, slices.count > 1 ? partial : db, pixels,
         slices.pixels, static_cast<int>(channels));
  if (slices.count > 1) sum_slices(partial, db, channels, slices.count, stream);
}

}  // namespace sextant::kernels::cuda
