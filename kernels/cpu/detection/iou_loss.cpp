#include "kernels/detection/iou_loss.h"

#include "core/parallel.h"
#include "kernels/math/iou.h"

namespace sextant::kernels::cpu {

template <class T>
void iou_loss(const IouLoss<T>& p) {
  parallel_for(p.rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) iou_loss_row(p, r);
  });
}

template void iou_loss(const IouLoss<float>&);
template void iou_loss(const IouLoss<double>&);

}  // namespace sextant::kernels::cpu
