// SPDX-License-Identifier: Apache-2.0
// Linear layers as 1x1 convolutions, which the backend may leave to a library.
#include "core/device.h"
#include "kernels/backend.h"
#include "kernels/linear.h"

namespace sextant::kernels::cuda {

void linear_forward(const LinearForward& p, void*, Stream stream) {
  const StreamScope scope(stream);
  backend().conv_forward(as_convolution(p));
}

void linear_backward(const LinearBackward& p, void*, Stream stream) {
  const StreamScope scope(stream);
  if (p.dx) backend().conv_backward_data(data_as_convolution(p));
  if (p.dw) backend().conv_backward_weight(weight_as_convolution(p));
}

}  // namespace sextant::kernels::cuda
