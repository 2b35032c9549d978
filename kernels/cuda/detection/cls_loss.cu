// SPDX-License-Identifier: Apache-2.0
// Classification losses with their gradients in one pass. Each block sums a run of elements, split
// by shape alone.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/math/cls_loss.h"

namespace sextant::kernels::cuda {
namespace {

using namespace cls;

constexpr int kThreads = 256;
constexpr int64_t kElements = 4096;  // of a block

// What an element contributes, given probabilities or logits.
struct OfProbability {
  __device__ __forceinline__ static Term negative_term(const ClassLoss& p, NegativeParams,
                                                       float value) {
    return class_term(p, bce_of_probability(static_cast<double>(value), 0.0), 0.0, false);
  }
  __device__ __forceinline__ static Bce own_bce(double value, double target) {
    return bce_of_probability(value, target);
  }
};
template <Negative kKind>
struct OfLogit {
  __device__ __forceinline__ static Term negative_term(const ClassLoss&, NegativeParams params,
                                                       float value) {
    const NegativeTerm t = negative<kKind>(value, params);
    return {static_cast<double>(t.loss), static_cast<double>(t.grad)};
  }
  __device__ __forceinline__ static Bce own_bce(double value, double target) {
    return bce_of_logit(value, target);
  }
};

// kWidth elements at i; returns the sum of their losses.
template <class Kind, int kWidth>
__device__ __forceinline__ double elements_at(const ClassLoss& p, NegativeParams params,
                                              const Divider<uint32_t>& classes, uint32_t i) {
  const Pack<kWidth> value = load<kWidth>(p.pred + i);
  Pack<kWidth> grad;
  double sum = 0.0;
#pragma unroll
  for (int v = 0; v < kWidth; ++v) {
    const uint32_t at = i + static_cast<uint32_t>(v);
    const uint32_t row = classes.quotient(at);
    const auto column = static_cast<int32_t>(at - row * classes.divisor);
    const bool own = column == p.label[row];
    Term t{};
    if (own) {
      const double target = own_target(p, row);
      t = class_term(p, Kind::own_bce(static_cast<double>(value.v[v]), target), target, true);
    } else {
      t = Kind::negative_term(p, params, value.v[v]);
    }
    const double weight = weight_of(p, column);
    sum += weight * t.loss;
    grad.v[v] = static_cast<float>(p.grad_scale * weight * t.grad);
  }
  if (p.grad != nullptr) store<kWidth>(p.grad + i, grad);
  return sum;
}

template <class Kind, int kWidth>
__global__ void __launch_bounds__(kThreads)
    class_loss_kernel(ClassLoss p, NegativeParams params, Divider<uint32_t> classes,
                      double* partial) {
  SEXTANT_SHARED(double[kThreads], lanes);
  p.grad_scale = gradient_scale(p);
  const int64_t n = p.rows * p.classes;
  const int64_t begin = blockIdx.x * kElements;
  const int64_t end = begin + kElements < n ? begin + kElements : n;
  const int64_t packed = begin + (end - begin) / kWidth * kWidth;
  double sum = 0.0;
  for (int64_t i = begin + threadIdx.x * kWidth; i < packed; i += kThreads * kWidth)
    sum += elements_at<Kind, kWidth>(p, params, classes, static_cast<uint32_t>(i));
  for (int64_t i = packed + threadIdx.x; i < end; i += kThreads)
    sum += elements_at<Kind, 1>(p, params, classes, static_cast<uint32_t>(i));
  sum = block_sum<kThreads>(sum, lanes);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

int64_t blocks_of(const ClassLoss& p) { return (p.rows * p.classes + kElements - 1) / kElements; }

template <class Kind>
void start(const ClassLoss& p, void* workspace, Stream stream) {
  const int64_t n = p.rows * p.classes;
  check(n < (int64_t{1} << 31), "class_loss: {} x {} elements, must be below 2^31", p.rows,
        p.classes);
  auto* partial = static_cast<double*>(workspace);
  const int64_t blocks = blocks_of(p);
  if (blocks > 0) {
    const Divider<uint32_t> classes(p.classes);
    const auto with = [&](const auto& kernel) {
      launch(kernel, static_cast<unsigned>(blocks), kThreads, 0, stream, p, negative_params(p),
             classes, partial);
    };
    if (aligned_to_pack({p.pred, p.grad}))
      with(SEXTANT_KERNEL(class_loss_kernel<Kind, kPackWidth>));
    else
      with(SEXTANT_KERNEL(class_loss_kernel<Kind, 1>));
  }
  sum_partials(partial, blocks, 1.0, p.sum, stream);
}

}  // namespace

int64_t workspace_bytes(const ClassLoss& p) {
  return blocks_of(p) * static_cast<int64_t>(sizeof(double));
}

void class_loss(const ClassLoss& p, void* workspace, Stream stream) {
  start<OfProbability>(p, workspace, stream);
}

void class_loss_logits(const ClassLoss& p, void* workspace, Stream stream) {
  if (p.type == ClassLossType::kPoly)
    start<OfLogit<Negative::kPoly>>(p, workspace, stream);
  else if (p.gamma == 2.0)
    start<OfLogit<Negative::kSquare>>(p, workspace, stream);
  else
    start<OfLogit<Negative::kPower>>(p, workspace, stream);
}

}  // namespace sextant::kernels::cuda
