// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/iou_loss.h"

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"
#include "kernels/math/iou.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

template <class T>
void each_row(const IouLoss<T>& p) {
  parallel_for(p.rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) iou_loss_row(p, r);
  });
}

}  // namespace

void iou_loss(const IouLoss<float>& p) { each_row(p); }
void iou_loss(const IouLoss<double>& p) { each_row(p); }

}  // namespace sextant::kernels::SEXTANT_CPU
