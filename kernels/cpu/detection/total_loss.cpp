// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/total_loss.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {

void total_loss(const TotalLoss& p) {
  std::fill_n(p.part, p.parts, 0.0);
  for (int t = 0; t < p.terms; ++t) {
    const LossTerm& term = p.term[t];
    double sum = 0.0;
    for (int i = 0; i < term.count; ++i) sum += p.sums[term.first + i];
    p.part[term.part] += term.factor * sum / (term.divisor ? *term.divisor : 1.0);
  }
  double total = 0.0;
  for (int i = 0; i < p.parts; ++i) total += p.part[i];
  *p.loss = static_cast<float>(total);
}

void scale_gradients(const ScaleGradients& p) {
  const float factor = *p.factor;
  if (factor == 1.0f) return;
  for (int t = 0; t < p.count; ++t) {
    float* x = p.x[t];
    parallel_for(p.n[t], 1 << 14, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) x[i] *= factor;
    });
  }
}

}  // namespace sextant::kernels::SEXTANT_CPU
