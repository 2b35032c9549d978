#include "kernels/math/requantize.h"

namespace sextant::kernels {

void set_epilogue(const ConvScales& s, Requantize& form) {
  const bool fold = requantizing::homogeneous(s.act);
  form.channels = s.channels;
  form.act = s.act;
  form.act_scale = fold ? 1.0f : 1.0f / s.destination;
  form.residual_before_act = s.residual_before_act;
  form.residual_scale = s.residual_scale;
  if (!fold && s.residual_before_act) form.residual_scale *= s.destination;
}

}  // namespace sextant::kernels
