// SPDX-License-Identifier: Apache-2.0
// Matrix products as pointwise convolutions.
#include "kernels/linear.h"

#include "kernels/cpu/kernels.h"

namespace sextant::kernels::SEXTANT_CPU {

void linear_forward(const LinearForward& p) { conv_forward(as_convolution(p)); }

void linear_backward(const LinearBackward& p) {
  if (p.dx) conv_backward_data(data_as_convolution(p));
  if (p.dw) conv_backward_weight(weight_as_convolution(p));
}

}  // namespace sextant::kernels::SEXTANT_CPU
