// SPDX-License-Identifier: Apache-2.0
// The optimizer's step over all tensors in one launch, a block a piece. Bound by memory: each value
// is read and written once, whatever of loss scale, multiplier and average takes part.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/optimizer.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Decided by each block for its tensor.
__device__ __forceinline__ bool is_packed(const UpdateTensor& t) {
  const auto bits = reinterpret_cast<uintptr_t>(t.param) | reinterpret_cast<uintptr_t>(t.grad) |
                    reinterpret_cast<uintptr_t>(t.multiplier) |
                    reinterpret_cast<uintptr_t>(t.moment) | reinterpret_cast<uintptr_t>(t.square) |
                    reinterpret_cast<uintptr_t>(t.average);
  return bits % kPackBytes == 0;
}

// The rules with one interface: what they keep beside the moment, and the update of an element.
template <bool kNesterov>
struct Sgd {
  static constexpr bool kHasSquare = false;
  SgdStep<kNesterov> step;
  __device__ __forceinline__ Sgd(const MultiTensorUpdate& p, const UpdateTensor& t, const AdamStep*,
                                 int32_t)
      : step{static_cast<float>(p.lr[t.group]), static_cast<float>(p.momentum),
             static_cast<float>(p.decay[t.group])} {}
  __device__ __forceinline__ void operator()(float& p, float& moment, float&, float grad,
                                             float) const {
    step(p, moment, grad);
  }
};
struct Adam {
  static constexpr bool kHasSquare = true;
  AdamStep step;
  __device__ __forceinline__ Adam(const MultiTensorUpdate&, const UpdateTensor&,
                                  const AdamStep* steps, int32_t i)
      : step(steps[i]) {}
  __device__ __forceinline__ void operator()(float& p, float& moment, float& square, float grad,
                                             float factor) const {
    step(p, moment, square, grad, factor);
  }
};

struct Scales {
  float inverse_loss_scale;
  float average_rest;
  bool update;
};

// kWidth elements at k.
template <int kWidth, class Rule>
__device__ __forceinline__ void update_at(const Rule& rule, const UpdateTensor& t, Scales scales,
                                          int64_t k) {
  Pack<kWidth> p = load<kWidth>(t.param + k);
  if (scales.update) {
    const Pack<kWidth> grad = load<kWidth>(t.grad + k);
    Pack<kWidth> moment = load<kWidth>(t.moment + k);
    Pack<kWidth> square{};
    Pack<kWidth> factor;
    if constexpr (Rule::kHasSquare) square = load<kWidth>(t.square + k);
    if (t.multiplier != nullptr) {
      factor = load<kWidth>(t.multiplier + k);
    } else {
#pragma unroll
      for (int v = 0; v < kWidth; ++v) factor.v[v] = 1.0f;
    }
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      const float g = factor.v[v] * (scales.inverse_loss_scale * grad.v[v]);
      rule(p.v[v], moment.v[v], square.v[v], g, factor.v[v]);
    }
    store<kWidth>(t.param + k, p);
    store<kWidth>(t.moment + k, moment);
    if constexpr (Rule::kHasSquare) store<kWidth>(t.square + k, square);
  }
  if (t.average == nullptr) return;
  Pack<kWidth> mean = load<kWidth>(t.average + k);
#pragma unroll
  for (int v = 0; v < kWidth; ++v) mean.v[v] += scales.average_rest * (p.v[v] - mean.v[v]);
  store<kWidth>(t.average + k, mean);
}

template <class Rule>
__global__ void __launch_bounds__(kThreads)
    update_kernel(MultiTensorUpdate p, const AdamStep* steps) {
  const UpdatePiece piece = p.list.pieces[blockIdx.x];
  const UpdateTensor t = p.list.tensors[piece.tensor];
  const bool skip = p.overflow != nullptr && *p.overflow != 0;
  const Scales scales{p.loss_scale != nullptr ? 1.0f / *p.loss_scale : 1.0f,
                      static_cast<float>(p.average_rest), t.grad != nullptr && !skip};
  if (!scales.update && t.average == nullptr) return;
  const Rule rule(p, t, steps, piece.tensor);
  const int64_t begin = piece.index * kUpdatePiece;
  const int64_t end = begin + kUpdatePiece < t.n ? begin + kUpdatePiece : t.n;
  int64_t rest = begin;
  if (is_packed(t)) {
    rest = begin + (end - begin) / kPackWidth * kPackWidth;
    for (int64_t k = begin + threadIdx.x * kPackWidth; k < rest; k += kThreads * kPackWidth)
      update_at<kPackWidth>(rule, t, scales, k);
  }
  for (int64_t k = rest + threadIdx.x; k < end; k += kThreads) update_at<1>(rule, t, scales, k);
}

// A thread a tensor.
__global__ void __launch_bounds__(kThreads) count_kernel(MultiTensorUpdate p, AdamStep* steps) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.list.count || (p.overflow != nullptr && *p.overflow != 0)) return;
  const UpdateTensor t = p.list.tensors[i];
  if (t.grad != nullptr) steps[i] = adam_step(p, t.group, ++*t.step);
}

__global__ void __launch_bounds__(kThreads) overflow_kernel(FindOverflow p) {
  const UpdatePiece piece = p.list.pieces[blockIdx.x];
  const UpdateTensor t = p.list.tensors[piece.tensor];
  if (t.grad == nullptr) return;
  const int64_t begin = piece.index * kUpdatePiece;
  const int64_t end = begin + kUpdatePiece < t.n ? begin + kUpdatePiece : t.n;
  bool bad = false;
  const auto check_pack = [&](const auto& pack) {
    for (const float g : pack.v) bad = bad || !(fabsf(g) <= 3.402823466e38f);
  };
  int64_t rest = begin;
  if (reinterpret_cast<uintptr_t>(t.grad) % kPackBytes == 0) {
    rest = begin + (end - begin) / kPackWidth * kPackWidth;
#pragma unroll 4
    for (int64_t k = begin + threadIdx.x * kPackWidth; k < rest; k += kThreads * kPackWidth)
      check_pack(load<kPackWidth>(t.grad + k));
  }
  for (int64_t k = rest + threadIdx.x; k < end; k += kThreads) check_pack(load<1>(t.grad + k));
  if (bad) atomicOr(p.overflow, 1);
}

__global__ void loss_scale_kernel(UpdateLossScale p) { step_loss_scale(p); }

unsigned blocks_of(const char* name, const UpdateList& list) {
  check(list.piece_count <= 0x7FFFFFFF, "{}: {} pieces, at most 2^31 - 1", name, list.piece_count);
  return static_cast<unsigned>(list.piece_count);
}

}  // namespace

int64_t workspace_bytes(const MultiTensorUpdate& p) {
  return p.rule == UpdateRule::kAdam ? p.list.count * static_cast<int64_t>(sizeof(AdamStep)) : 0;
}

void multi_tensor_update(const MultiTensorUpdate& p, void* workspace, Stream stream) {
  const unsigned blocks = blocks_of("multi_tensor_update", p.list);
  auto* steps = static_cast<AdamStep*>(workspace);
  if (p.rule == UpdateRule::kAdam && p.list.count > 0) {
    const auto counters = static_cast<unsigned>((p.list.count + kThreads - 1) / kThreads);
    launch(SEXTANT_KERNEL(count_kernel), counters, kThreads, 0, stream, p, steps);
  }
  if (blocks == 0) return;
  if (p.rule == UpdateRule::kAdam) {
    launch(SEXTANT_KERNEL(update_kernel<Adam>), blocks, kThreads, 0, stream, p, steps);
  } else if (p.nesterov) {
    launch(SEXTANT_KERNEL(update_kernel<Sgd<true>>), blocks, kThreads, 0, stream, p, steps);
  } else {
    launch(SEXTANT_KERNEL(update_kernel<Sgd<false>>), blocks, kThreads, 0, stream, p, steps);
  }
}

void find_overflow(const FindOverflow& p, void*, Stream stream) {
  if (p.list.piece_count == 0) return;
  launch(SEXTANT_KERNEL(overflow_kernel), blocks_of("find_overflow", p.list), kThreads, 0, stream,
         p);
}

void update_loss_scale(const UpdateLossScale& p, void*, Stream stream) {
  launch(SEXTANT_KERNEL(loss_scale_kernel), 1, 1, 0, stream, p);
}

}  // namespace sextant::kernels::cuda
