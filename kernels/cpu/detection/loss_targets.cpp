// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/loss_targets.h"

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {

void loss_targets(const LossTargets& p) {
  const int64_t anchors = p.maps.anchors();
  constexpr int64_t kGrain = 8192;  // anchors
  parallel_for(p.maps.batch, 1 + kGrain / std::max<int64_t>(anchors, 1),
               [&](int64_t begin, int64_t end) {
                 for (int64_t n = begin; n < end; ++n) {
                   int64_t from = n * anchors, first = 0;
                   for (int l = 0; l < p.maps.levels; ++l) {
                     const int64_t pixels = p.maps.level[l].height * p.maps.level[l].width;
                     for (int64_t b = 0; b < p.maps.per_cell; ++b)
                       for (int64_t i = 0; i < pixels; ++i, ++from) {
                         const int64_t row = first + (n * pixels + i) * p.maps.per_cell + b;
                         const int32_t g = p.assigned[from];
                         p.label[row] = g < 0 ? -1 : p.gt_classes[p.gt_begin[n] + g];
                         p.row_target[row] = p.target[from];
                         if (p.object) p.object[row] = g < 0 ? -1 : 0;
                       }
                     first += p.maps.batch * pixels * p.maps.per_cell;
                   }
                 }
               });
  TargetScores s{0.0, 0.0, 1.0};
  for (int64_t i = 0; i < p.maps.batch * anchors; ++i) {
    if (p.assigned[i] < 0) continue;
    s.sum += p.target[i];
    s.positives += 1.0;
  }
  if (p.across) {
    double sums[] = {s.sum, s.positives};
    p.across->sum(sums, 2, DType::kF64, Device::kCpu);
    s.sum = sums[0];
    s.positives = sums[1];
  }
  if (s.sum > p.undivided) s.divisor = s.sum;
  *p.scores = s;
}

}  // namespace sextant::kernels::SEXTANT_CPU
