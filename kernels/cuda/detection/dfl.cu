// SPDX-License-Identifier: Apache-2.0
// Distributions over bins: expectation and distribution focal loss.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/detection/dfl.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kSharedBytes = 48 * 1024;

__device__ __forceinline__ float exponential(float x) { return fast_exp(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }

// One thread per row. The block's rows are adjacent and pass through shared memory, so that global
// memory is read and written in order. An odd number of bins has no bank conflicts.
template <class T>
__global__ void __launch_bounds__(kThreads) expectation_kernel(Expectation<T> p) {
  SEXTANT_DYNAMIC_SHARED(T, tile);  // [kThreads][bins]
  const int bins = static_cast<int>(p.bins);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads;
  const int rows = static_cast<int>(p.rows - first < kThreads ? p.rows - first : kThreads);
  const float* logits = p.logits + first * bins;
  for (int i = static_cast<int>(threadIdx.x); i < rows * bins; i += kThreads)
    tile[i] = static_cast<T>(logits[i]);
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x);
  if (row < rows) {
    T* z = tile + row * bins;
    T top = z[0];
    for (int k = 1; k < bins; ++k) top = z[k] > top ? z[k] : top;
    T sum = 0;
    T moment = 0;
    for (int k = 0; k < bins; ++k) {
      z[k] = exponential(z[k] - top);
      sum += z[k];
      moment += z[k] * static_cast<T>(k);
    }
    const T inverse = T(1) / sum;
    for (int k = 0; k < bins; ++k) z[k] *= inverse;
    p.mean[first + row] = moment * inverse;
  }
  if (p.prob == nullptr) return;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < rows * bins; i += kThreads)
    p.prob[first * bins + i] = tile[i];
}

// One thread per side; the four sides of a row are neighbours in a warp.
template <int kBlock>
__global__ void __launch_bounds__(kBlock) dfl_kernel(DflLoss p) {
  const int64_t side = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  const double loss = side < 4 * p.rows ? dfl_side(p, side) : 0.0;
  double sum = 0.0;
  for (int i = 0; i < 4; ++i) sum += __shfl_sync(0xffffffffu, loss, i, 4);
  if (threadIdx.x % 4 == 0 && side < 4 * p.rows) p.loss[side / 4] = 0.25 * sum;
}

unsigned blocks_of(const char* name, int64_t threads) {
  const int64_t blocks = (threads + kThreads - 1) / kThreads;
  check(blocks <= 0x7FFFFFFF, "{}: {} rows are too many", name, threads);
  return static_cast<unsigned>(blocks);
}

template <class T>
void each_row(const Expectation<T>& p, Stream stream) {
  const int64_t shared = kThreads * p.bins * static_cast<int64_t>(sizeof(T));
  check(p.bins >= 1 && shared <= kSharedBytes, "expectation: {} bins, must be 1 to {}", p.bins,
        kSharedBytes / kThreads / static_cast<int64_t>(sizeof(T)));
  if (p.rows <= 0) return;
  launch(SEXTANT_KERNEL(expectation_kernel<T>), blocks_of("expectation", p.rows), kThreads,
         static_cast<size_t>(shared), stream, p);
}

}  // namespace

void expectation(const Expectation<float>& p, void*, Stream stream) { each_row(p, stream); }
void expectation(const Expectation<double>& p, void*, Stream stream) { each_row(p, stream); }

void dfl_loss(const DflLoss& p, void*, Stream stream) {
  check(p.reg_max >= 1, "dfl_loss: reg_max {}, must be 1 or more", p.reg_max);
  if (p.rows <= 0) return;
  launch(SEXTANT_KERNEL(dfl_kernel<kThreads>), blocks_of("dfl_loss", 4 * p.rows), kThreads, 0,
         stream, p);
}

}  // namespace sextant::kernels::cuda
