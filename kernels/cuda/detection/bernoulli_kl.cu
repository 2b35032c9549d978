// SPDX-License-Identifier: Apache-2.0
// Distillation of class scores: divergence and gradient in one pass over each map, one block per
// run of values, split by size alone; then one block adds up the sums and computes loss and factor.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/math/bernoulli_kl.h"

namespace sextant::kernels::cuda {
namespace {

using namespace scores;

constexpr int kThreads = 256;
constexpr int64_t kElements = 4096;  // of a block

int64_t blocks_of(const ScoreMap& m) { return (m.n + kElements - 1) / kElements; }
int64_t blocks_of(const BernoulliKl& p) {
  int64_t blocks = 0;
  for (int i = 0; i < p.maps; ++i) blocks += blocks_of(p.map[i]);
  return blocks;
}

// kWidth values at i.
template <int kWidth>
__device__ __forceinline__ void values_at(const ScoreMap& m, double inverse, int64_t i,
                                          ScoreSums& sums) {
  const Pack<kWidth> student = load<kWidth>(m.student + i);
  const Pack<kWidth> teacher = load<kWidth>(m.teacher + i);
  Pack<kWidth> grad;
#pragma unroll
  for (int v = 0; v < kWidth; ++v)
    grad.v[v] = static_cast<float>(add_score(static_cast<double>(student.v[v]),
                                             static_cast<double>(teacher.v[v]), inverse, sums));
  if (m.grad != nullptr) store<kWidth>(m.grad + i, grad);
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    bernoulli_kl_kernel(ScoreMap m, double inverse, double* divergence, double* teacher) {
  SEXTANT_SHARED(double[kThreads], lanes);
  const int64_t begin = blockIdx.x * kElements;
  const int64_t end = begin + kElements < m.n ? begin + kElements : m.n;
  const int64_t packed = begin + (end - begin) / kWidth * kWidth;
  ScoreSums sums;
  for (int64_t i = begin + threadIdx.x * kWidth; i < packed; i += kThreads * kWidth)
    values_at<kWidth>(m, inverse, i, sums);
  for (int64_t i = packed + threadIdx.x; i < end; i += kThreads) values_at<1>(m, inverse, i, sums);
  sums.divergence = block_sum<kThreads>(sums.divergence, lanes);
  __syncthreads();
  sums.teacher = block_sum<kThreads>(sums.teacher, lanes);
  if (threadIdx.x > 0) return;
  divergence[blockIdx.x] = sums.divergence;
  teacher[blockIdx.x] = sums.teacher;
}

template <int kBlock>
__global__ void __launch_bounds__(kBlock)
    score_loss_kernel(BernoulliKl p, const double* divergence, const double* teacher, int64_t n) {
  SEXTANT_SHARED(double[kBlock], lanes);
  ScoreSums sums;
  for (int64_t i = threadIdx.x; i < n; i += kBlock) {
    sums.divergence += divergence[i];
    sums.teacher += teacher[i];
  }
  sums.divergence = block_sum<kBlock>(sums.divergence, lanes);
  __syncthreads();
  sums.teacher = block_sum<kBlock>(sums.teacher, lanes);
  if (threadIdx.x > 0) return;
  const double factor = factor_of(p, sums);
  *p.loss = static_cast<float>(factor * sums.divergence);
  *p.factor = static_cast<float>(factor);
}

}  // namespace

int64_t workspace_bytes(const BernoulliKl& p) {
  return 2 * blocks_of(p) * static_cast<int64_t>(sizeof(double));
}

void bernoulli_kl(const BernoulliKl& p, void* workspace, Stream stream) {
  check(p.maps >= 0 && p.maps <= kMaxScoreMaps, "bernoulli_kl: {} maps, at most {}", p.maps,
        kMaxScoreMaps);
  const int64_t blocks = blocks_of(p);
  auto* divergence = static_cast<double*>(workspace);
  double* teacher = divergence + blocks;
  int64_t first = 0;
  for (int i = 0; i < p.maps; ++i) {
    const ScoreMap& m = p.map[i];
    const int64_t count = blocks_of(m);
    check(m.n >= 0 && count < (int64_t{1} << 31), "bernoulli_kl: {} values in map {}", m.n, i);
    if (count == 0) continue;
    const auto start = [&](const auto& kernel) {
      launch(kernel, static_cast<unsigned>(count), kThreads, 0, stream, m, 1.0 / p.temperature,
             divergence + first, teacher + first);
    };
    if (aligned_to_pack({m.student, m.teacher, m.grad}))
      start(SEXTANT_KERNEL(bernoulli_kl_kernel<kPackWidth>));
    else
      start(SEXTANT_KERNEL(bernoulli_kl_kernel<1>));
    first += count;
  }
  launch(SEXTANT_KERNEL(score_loss_kernel<kThreads>), 1, kThreads, 0, stream, p, divergence,
         teacher, blocks);
}

}  // namespace sextant::kernels::cuda
