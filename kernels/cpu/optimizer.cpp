// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

// Calls f(tensor's index, begin, end) for every piece.
template <class F>
void each_piece(const UpdateList& list, const F& f) {
  parallel_for(list.piece_count, 32, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const UpdatePiece& piece = list.pieces[i];
      const int64_t begin = piece.index * kUpdatePiece;
      f(piece.tensor, begin, std::min(begin + kUpdatePiece, list.tensors[piece.tensor].n));
    }
  });
}

// The gradient passed to the rule; its factor is a compile-time 1 if there is none.
template <bool kMultiplied, bool kScaled>
struct Gradient {
  const float* grad;
  const float* multiplier;
  float inverse_scale;
  float factor(int64_t k) const { return kMultiplied ? multiplier[k] : 1.0f; }
  float at(int64_t k) const {
    const float g = kScaled ? inverse_scale * grad[k] : grad[k];
    return kMultiplied ? multiplier[k] * g : g;
  }
};

// Calls f(Gradient<...>{}).
template <class F>
void dispatch_gradient(const UpdateTensor& t, const float* loss_scale, const F& f) {
  const float inverse = loss_scale ? 1.0f / *loss_scale : 1.0f;
  if (t.multiplier)
    loss_scale ? f(Gradient<true, true>{t.grad, t.multiplier, inverse})
               : f(Gradient<true, false>{t.grad, t.multiplier, inverse});
  else
    loss_scale ? f(Gradient<false, true>{t.grad, nullptr, inverse})
               : f(Gradient<false, false>{t.grad, nullptr, inverse});
}

template <class G, bool kNesterov>
void run(const SgdStep<kNesterov>& step, const UpdateTensor& t, const G& gradient, int64_t begin,
         int64_t end) {
  float* __restrict p = t.param;
  float* __restrict moment = t.moment;
#pragma omp simd
  for (int64_t k = begin; k < end; ++k) step(p[k], moment[k], gradient.at(k));
}

template <class G>
void run(const AdamStep& step, const UpdateTensor& t, const G& gradient, int64_t begin,
         int64_t end) {
  float* __restrict p = t.param;
  float* __restrict moment = t.moment;
  float* __restrict square = t.square;
#pragma omp simd
  for (int64_t k = begin; k < end; ++k)
    step(p[k], moment[k], square[k], gradient.at(k), gradient.factor(k));
}

void average(const UpdateTensor& t, float rest, int64_t begin, int64_t end) {
  const float* __restrict x = t.param;
  float* __restrict mean = t.average;
#pragma omp simd
  for (int64_t k = begin; k < end; ++k) mean[k] += rest * (x[k] - mean[k]);
}

}  // namespace

void multi_tensor_update(const MultiTensorUpdate& p) {
  const bool skip = p.overflow && *p.overflow != 0;
  std::vector<AdamStep> adam(p.rule == UpdateRule::kAdam ? static_cast<size_t>(p.list.count) : 0);
  for (size_t i = 0; i < adam.size() && !skip; ++i) {
    const UpdateTensor& t = p.list.tensors[i];
    if (t.grad) adam[i] = adam_step(p, t.group, ++*t.step);
  }
  const auto rest = static_cast<float>(p.average_rest);
  each_piece(p.list, [&](int32_t i, int64_t begin, int64_t end) {
    const UpdateTensor& t = p.list.tensors[i];
    if (t.grad && !skip) {
      dispatch_gradient(t, p.loss_scale, [&](const auto& gradient) {
        const auto lr = static_cast<float>(p.lr[t.group]);
        const auto momentum = static_cast<float>(p.momentum);
        const auto decay = static_cast<float>(p.decay[t.group]);
        if (p.rule == UpdateRule::kAdam)
          run(adam[static_cast<size_t>(i)], t, gradient, begin, end);
        else if (p.nesterov)
          run(SgdStep<true>{lr, momentum, decay}, t, gradient, begin, end);
        else
          run(SgdStep<false>{lr, momentum, decay}, t, gradient, begin, end);
      });
    }
    if (t.average) average(t, rest, begin, end);
  });
}

void find_overflow(const FindOverflow& p) {
  std::vector<uint8_t> found(static_cast<size_t>(p.list.count), 0);
  parallel_for(p.list.count, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const UpdateTensor& t = p.list.tensors[i];
      int any = 0;
      for (int64_t k = 0; t.grad && k < t.n; ++k) any |= std::isfinite(t.grad[k]) ? 0 : 1;
      found[static_cast<size_t>(i)] = static_cast<uint8_t>(any);
    }
  });
  for (const uint8_t f : found)
    if (f) *p.overflow = 1;
}

void update_loss_scale(const UpdateLossScale& p) { step_loss_scale(p); }

}  // namespace sextant::kernels::SEXTANT_CPU
