#include "deploy/conv_spec.h"

#include <algorithm>

namespace sextant::deploy {
namespace {

// act(a v) = a act(v) for a > 0: the destination's scale can go into the factor before it.
bool homogeneous(Activation a) {
  return a == Activation::kIdentity || a == Activation::kReLU || a == Activation::kLeakyReLU;
}

}  // namespace

ConvEpilogue integer_epilogue(const ConvSpec& spec) {
  ConvEpilogue e;
  const bool fold = homogeneous(spec.activation);
  const int64_t channels = spec.weight.dim(0);
  for (int64_t o = 0; o < channels; ++o) {
    const double s =
        static_cast<double>(spec.source_scale) * spec.weight_scale[static_cast<size_t>(o)];
    const double b = spec.bias.defined() ? spec.bias.f32()[o] : 0.0;
    e.bias.push_back(static_cast<float>(b / s));
    e.factor.push_back(static_cast<float>(fold ? s / spec.destination_scale : s));
  }
  e.activation_scale = fold ? 1.0f : 1.0f / spec.destination_scale;
  e.residual_scale = spec.residual_scale;
  if (!fold && spec.residual_before_activation) e.residual_scale *= spec.destination_scale;
  return e;
}

Tensor deconv_as_pointwise(const Tensor& weight) {
  const int64_t o = weight.dim(0);
  const int64_t i = weight.dim(3);
  Tensor result(Shape{4 * o, 1, 1, i});
  for (int64_t oc = 0; oc < o; ++oc)
    for (int64_t tap = 0; tap < 4; ++tap)
      std::copy_n(weight.f32() + (oc * 4 + tap) * i, i, result.f32() + (tap * o + oc) * i);
  return result;
}

Tensor deconv_bias(const Tensor& bias) {
  if (!bias.defined()) return {};
  Tensor result(Shape{4 * bias.numel()});
  for (int64_t tap = 0; tap < 4; ++tap)
    std::copy_n(bias.f32(), bias.numel(), result.f32() + tap * bias.numel());
  return result;
}

}  // namespace sextant::deploy
