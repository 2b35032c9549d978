// SPDX-License-Identifier: Apache-2.0
#include "kernels/elementwise.h"

#include "core/parallel.h"
#include "kernels/cpu/f32_only.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {
constexpr int64_t kGrain = 1 << 14;
}

void act_forward(const ActForward& p) {
  check_f32("act_forward", p.dtype);
  const float* x = f32(p.x);
  float* y = f32(p.y);
  dispatch_activation(p.activation, [&](auto tag) {
    constexpr Activation kAct = decltype(tag)::value;
    parallel_for(p.n, kGrain, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) y[i] = activate<kAct>(x[i]);
    });
  });
}

void act_backward(const ActBackward& p) {
  check_f32("act_backward", p.dtype);
  const float* x = f32(p.x);
  const float* dy = f32(p.dy);
  float* dx = f32(p.dx);
  dispatch_activation(p.activation, [&](auto tag) {
    constexpr Activation kAct = decltype(tag)::value;
    parallel_for(p.n, kGrain, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) dx[i] = dy[i] * activate_grad<kAct>(x[i]);
    });
  });
}

void add_scaled(const AddScaled& p) {
  check_f32("add_scaled", p.dtype);
  const float alpha = p.alpha_at ? p.alpha * *p.alpha_at : p.alpha;
  const float beta = p.beta_at ? p.beta * *p.beta_at : p.beta;
  const float* a = f32(p.a);
  const float* b = f32(p.b);
  float* y = f32(p.y);
  parallel_for(p.n, kGrain, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) y[i] = alpha * a[i] + beta * b[i];
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
