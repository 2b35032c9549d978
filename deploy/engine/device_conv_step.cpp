// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/device_conv_step.h"

#include <algorithm>

#include "deploy/graph/ranges.h"
#include "kernels/backend.h"

namespace sextant::deploy {
namespace {

Tensor on_device(const std::vector<float>& values) {
  return Tensor::from<float>({static_cast<int64_t>(values.size())}, values).to(Device::kCuda);
}

std::vector<int> touched(const ConvSpec& spec) {
  std::vector<int> storages{spec.source.storage, spec.destination.storage};
  if (spec.residual) storages.push_back(spec.residual_source.storage);
  return storages;
}

// What both forms share of `conv`'s fields, and the step that `run`s it with its tensors in place.
template <class Conv, class F>
std::unique_ptr<Step> conv_step(const ConvSpec& spec, Conv conv, const Tensor& weight,
                                const Tensor& bias, const F& run) {
  conv.shape = shape_of(spec);
  if (!kernels::is_depthwise(conv.shape)) conv.shape.groups = 1;  // device_weight()
  conv.x_pitch = spec.source.pitch;
  conv.y_pitch = spec.destination.pitch;
  if (spec.residual) conv.residual_pitch = spec.residual_source.pitch;
  const Tensor gain = spec.gain.defined() ? spec.gain.to(Device::kCuda) : Tensor();
  auto step = make_step(
      "conv", touched(spec),
      [=, source = spec.source, destination = spec.destination, residual = spec.residual_source,
       with_residual = spec.residual](const Bases& bases) {
        Conv p = conv;
        p.x = source.at(bases);
        p.bias = bias.defined() ? bias.f32() : nullptr;
        p.gain = gain.defined() ? gain.f32() : nullptr;
        p.y = destination.at(bases);
        if (with_residual) p.residual = residual.at(bases);
        run(p);
      });
  step->weight_bytes = weight.bytes() + (bias.defined() ? bias.bytes() : 0);
  return step;
}

// The weights as the device's kernels take them.
Tensor device_weight(const ConvSpec& spec) {
  return kernels::is_depthwise(shape_of(spec)) ? spec.weight
                                               : without_groups(spec.weight, spec.groups);
}

// Weights quantized as on the CPU.
std::unique_ptr<Step> integer_step(const ConvSpec& spec) {
  const Tensor dense = device_weight(spec);
  const Tensor weight =
      Tensor::from<int8_t>(dense.shape(), quantize_weight(dense, spec.weight_scale))
          .to(Device::kCuda);
  const FoldedScales folded = fold_scales(spec);
  const Tensor bias = spec.bias.defined() ? on_device(folded.bias) : Tensor();
  const Tensor factor = on_device(folded.factor);
  kernels::ConvInt8Forward conv;
  conv.x_type = spec.source.dtype;
  conv.y_type = spec.destination.dtype;
  conv.epilogue = folded.epilogue;
  auto step = conv_step(spec, conv, weight, bias, [=](kernels::ConvInt8Forward& p) {
    p.w = weight.data<int8_t>();
    p.factor = factor.f32();
    kernels::backend(Device::kCuda).conv_int8_forward(p);
  });
  step->weight_bytes += factor.bytes();
  return step;
}

std::unique_ptr<Step> float_step(const ConvSpec& spec) {
  kernels::ConvForward conv;
  conv.dtype = spec.destination.dtype;
  conv.epilogue = spec.epilogue;
  Tensor dense = device_weight(spec);
  if (conv.dtype != DType::kF32) {
    const Tensor narrow(dense.shape(), conv.dtype);
    kernels::backend(Device::kCpu)
        .cast({dense.raw(), DType::kF32, narrow.raw(), conv.dtype, dense.numel()});
    dense = narrow;
  }
  const Tensor weight = dense.to(Device::kCuda);
  return conv_step(spec, conv, weight, spec.bias.to(Device::kCuda), [=](kernels::ConvForward& p) {
    p.w = weight.raw();
    kernels::backend(Device::kCuda).conv_forward(p);
  });
}

}  // namespace

// Through the backend, which may choose among implementations.
std::unique_ptr<Step> make_device_conv_step(const ConvSpec& spec) {
  auto step = spec.integer ? integer_step(spec) : float_step(spec);
  step->flops = 2.0 * static_cast<double>(spec.batch * spec.out_height * spec.out_width) *
                static_cast<double>(spec.weight.numel());
  return step;
}

Tensor without_groups(const Tensor& weight, int64_t groups) {
  if (groups == 1) return weight;
  const int64_t o = weight.dim(0), taps = weight.dim(1) * weight.dim(2), i = weight.dim(3);
  const Tensor dense = Tensor::zeros({o, weight.dim(1), weight.dim(2), i * groups}, weight.dtype());
  for (int64_t oc = 0; oc < o; ++oc)
    for (int64_t tap = 0; tap < taps; ++tap)
      std::copy_n(weight.f32() + (oc * taps + tap) * i, i,
                  dense.f32() + ((oc * taps + tap) * groups + oc / (o / groups)) * i);
  return dense;
}

}  // namespace sextant::deploy
