// SPDX-License-Identifier: Apache-2.0
#include "kernels/math/requantize.h"

namespace sextant::kernels {

Epilogue folded_epilogue(const ConvScales& s) {
  Epilogue e = s.epilogue;
  if (traits_of(e.activation).homogeneous) return e;
  e.activation_scale = 1.0f / s.destination;
  if (e.residual_before_activation) e.residual_scale *= s.destination;
  return e;
}

}  // namespace sextant::kernels
