// SPDX-License-Identifier: Apache-2.0
// Combines the parts of a loss with one small block, and multiplies gradients by a scalar in device
// memory.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/detection/total_loss.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// A thread a term, then a thread a part, then one.
template <int kBlock>
__global__ void __launch_bounds__(kBlock) total_loss_kernel(TotalLoss p) {
  SEXTANT_SHARED(double[kMaxLossTerms], terms);
  SEXTANT_SHARED(double[kMaxLossParts], parts);
  const int t = static_cast<int>(threadIdx.x);
  if (t < p.terms) {
    const LossTerm& term = p.term[t];
    double sum = 0.0;
    for (int i = 0; i < term.count; ++i) sum += p.sums[term.first + i];
    terms[t] = term.factor * sum / (term.divisor != nullptr ? *term.divisor : 1.0);
  }
  __syncthreads();
  if (t < p.parts) {
    double sum = 0.0;
    for (int i = 0; i < p.terms; ++i)
      if (p.term[i].part == t) sum += terms[i];
    parts[t] = sum;
    p.part[t] = sum;
  }
  __syncthreads();
  if (t > 0) return;
  double total = 0.0;
  for (int i = 0; i < p.parts; ++i) total += parts[i];
  *p.loss = static_cast<float>(total);
}

// Row y of the grid has tensor y.
template <int kBlock, int kWidth>
__global__ void __launch_bounds__(kBlock) scale_gradients_kernel(ScaleGradients p) {
  const float factor = *p.factor;
  if (factor == 1.0f) return;
  float* x = p.x[blockIdx.y];
  const int64_t n = p.n[blockIdx.y];
  const int64_t packs = n / kWidth, step = static_cast<int64_t>(gridDim.x) * kBlock;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  for (int64_t i = first; i < packs; i += step) {
    Pack<kWidth> v = load<kWidth>(x + kWidth * i);
    for (int k = 0; k < kWidth; ++k) v.v[k] *= factor;
    store<kWidth>(x + kWidth * i, v);
  }
  for (int64_t i = packs * kWidth + first; i < n; i += step) x[i] *= factor;
}

}  // namespace

void total_loss(const TotalLoss& p, void*, Stream stream) {
  check(p.terms >= 0 && p.terms <= kMaxLossTerms && p.parts >= 0 && p.parts <= kMaxLossParts,
        "total_loss: {} terms and {} parts, at most {} and {}", p.terms, p.parts, kMaxLossTerms,
        kMaxLossParts);
  launch(SEXTANT_KERNEL(total_loss_kernel<kMaxLossTerms>), 1, kMaxLossTerms, 0, stream, p);
}

void scale_gradients(const ScaleGradients& p, void*, Stream stream) {
  check(p.count >= 0 && p.count <= kMaxScaled, "scale_gradients: {} tensors, at most {}", p.count,
        kMaxScaled);
  int64_t most = 0;
  bool packs = true;
  for (int i = 0; i < p.count; ++i) {
    most = std::max(most, p.n[i]);
    packs = packs && aligned_to_pack({p.x[i]});
  }
  if (most == 0) return;
  const dim3 grid(grid_stride_blocks((most + kPackWidth - 1) / kPackWidth, kThreads),
                  static_cast<unsigned>(p.count));
  const auto with = [&](const auto& kernel) { launch(kernel, grid, kThreads, 0, stream, p); };
  if (packs)
    with(SEXTANT_KERNEL(scale_gradients_kernel<kThreads, kPackWidth>));
  else
    with(SEXTANT_KERNEL(scale_gradients_kernel<kThreads, 1>));
}

}  // namespace sextant::kernels::cuda
