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
  parallel_for(p.n, kGrain, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) p.y[i] = p.alpha * p.a[i] + p.beta * p.b[i];
  });
}

}  // namespace sextant::kernels::cpu
