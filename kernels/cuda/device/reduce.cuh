// SPDX-License-Identifier: Apache-2.0
// Sums in double whose order depends on the shape alone: one partial result per block, added up by
// a single block.
#pragma once

#include "kernels/cuda/device/launch.h"

namespace sextant::kernels::cuda {

inline constexpr int kSumThreads = 256;

// The sum of `value` over the block's kThreads threads, in thread 0. `lanes` is shared memory that
// no thread reads any more.
template <int kThreads>
__device__ __forceinline__ double block_sum(double value, double (&lanes)[kThreads]) {
  const int t = static_cast<int>(threadIdx.x + threadIdx.y * blockDim.x);
  lanes[t] = value;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) {
      value += lanes[t + half];
      lanes[t] = value;
    }
  }
  return value;
}

// sums[r] = factor * (partial[r n] + ... + partial[r n + n - 1]): a block a row.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    sum_partials_kernel(const double* partial, int64_t n, double factor, double* sums) {
  SEXTANT_SHARED(double[kThreads], lanes);
  const double* row = partial + blockIdx.x * n;
  double mine = 0.0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) mine += row[i];
  mine = block_sum<kThreads>(mine, lanes);
  if (threadIdx.x == 0) sums[blockIdx.x] = factor * mine;
}

inline void sum_partials(const double* partial, int64_t n, double factor, double* sums,
                         Stream stream, int64_t rows = 1) {
  launch(SEXTANT_KERNEL(sum_partials_kernel<kSumThreads>), static_cast<unsigned>(rows), kSumThreads,
         0, stream, partial, n, factor, sums);
}

}  // namespace sextant::kernels::cuda
