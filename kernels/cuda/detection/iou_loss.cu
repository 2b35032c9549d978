// SPDX-License-Identifier: Apache-2.0
// Box losses, one thread per row.
#include "kernels/cuda/device/each.cuh"
#include "kernels/math/iou.h"

namespace sextant::kernels::cuda {
namespace {

template <class T>
struct IouLossOp {
  IouLoss<T> p;
  __device__ __forceinline__ void operator()(uint32_t r) const { iou_loss_row(p, r); }
};

template <class T>
void each_row(const IouLoss<T>& p, Stream stream) {
  for_each_item("iou_loss", IouLossOp<T>{p}, p.rows, stream);
}

}  // namespace

void iou_loss(const IouLoss<float>& p, void*, Stream stream) { each_row(p, stream); }
void iou_loss(const IouLoss<double>& p, void*, Stream stream) { each_row(p, stream); }

}  // namespace sextant::kernels::cuda
