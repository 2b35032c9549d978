#include "kernels/elementwise.h"

#include "core/parallel.h"

namespace sextant::kernels::cpu {
namespace {
constexpr int64_t kGrain = 1 << 14;
}

void act_forward(const ActForward& p) {
  dispatch_activation(p.act, [&](auto tag) {
    constexpr Activation kAct = decltype(tag)::value;
    parallel_for(p.n, kGrain, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) p.y[i] = activate<kAct>(p.x[i]);
    });
  });
}

void act_backward(const ActBackward& p) {
  dispatch_activation(p.act, [&](auto tag) {
    constexpr Activation kAct = decltype(tag)::value;
    parallel_for(p.n, kGrain, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) p.dx[i] = p.dy[i] * activate_grad<kAct>(p.x[i]);
    });
  });
}

void add_scaled(const AddScaled& p) {
  const float alpha = p.alpha_at ? p.alpha * *p.alpha_at : p.alpha;
  const float beta = p.beta_at ? p.beta * *p.beta_at : p.beta;
  parallel_for(p.n, kGrain, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) p.y[i] = alpha * p.a[i] + beta * p.b[i];
  });
}

}  // namespace sextant::kernels::cpu
