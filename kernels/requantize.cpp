#include "kernels/requantize.h"

namespace sextant::kernels {
namespace {

// act(a v) = a act(v) for a > 0: the destination's scale can go into the factor before it.
bool homogeneous(Activation a) {
  return a == Activation::kIdentity || a == Activation::kReLU || a == Activation::kLeakyReLU;
}

}  // namespace

void fold_scales(const ConvScales& s, float* bias, float* factor, Requantize& form) {
  const bool fold = homogeneous(s.act);
  for (int64_t o = 0; o < s.channels; ++o) {
    const double product = static_cast<double>(s.source) * static_cast<double>(s.weight[o]);
    const double b = s.bias != nullptr ? static_cast<double>(s.bias[o]) : 0.0;
    bias[o] = static_cast<float>(b / product);
    factor[o] = static_cast<float>(fold ? product / static_cast<double>(s.destination) : product);
  }
  form.channels = s.channels;
  form.act = s.act;
  form.act_scale = fold ? 1.0f : 1.0f / s.destination;
  form.residual_before_act = s.residual_before_act;
  form.residual_scale = s.residual_scale;
  if (!fold && s.residual_before_act) form.residual_scale *= s.destination;
}

}  // namespace sextant::kernels
