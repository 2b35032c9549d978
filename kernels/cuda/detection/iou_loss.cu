// Box losses, a thread a row.
#include "kernels/cuda/device/each.cuh"
#include "kernels/math/iou.h"

namespace sextant::kernels::cuda {
namespace {

template <class T>
struct IouLossOp {
  IouLoss<T> p;
  __device__ __forceinline__ void operator()(uint32_t r) const { iou_loss_row(p, r); }
};

}  // namespace

template <class T>
void iou_loss(const IouLoss<T>& p, Stream stream) {
  for_each_item("iou_loss", IouLossOp<T>{p}, p.rows, stream);
}

template void iou_loss(const IouLoss<float>&, Stream);
template void iou_loss(const IouLoss<double>&, Stream);

}  // namespace sextant::kernels::cuda
