// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/conv_spec.h"

#include "kernels/backend.h"

namespace sextant::deploy {

kernels::ConvShape shape_of(const ConvSpec& spec) {
  const Shape& w = spec.weight.shape();
  const kernels::ConvShape shape{.n = spec.batch,
                                 .h = spec.height,
                                 .w = spec.width,
                                 .ic = w[3] * spec.groups,
                                 .oc = w[0],
                                 .kh = w[1],
                                 .kw = w[2],
                                 .stride = spec.stride,
                                 .pad = spec.padding,
                                 .groups = spec.groups};
  check(shape.oh() == spec.out_height && shape.ow() == spec.out_width,
        "deploy: a convolution to {} x {} pixels, expected {} x {}", spec.out_width,
        spec.out_height, shape.ow(), shape.oh());
  return shape;
}

FoldedScales fold_scales(const ConvSpec& spec) {
  FoldedScales folded;
  const auto channels = static_cast<size_t>(spec.weight.dim(0));
  folded.bias.resize(channels);
  folded.factor.resize(channels);
  const kernels::ConvScales scales{.source = spec.source_scale,
                                   .destination = spec.destination_scale,
                                   .weight = spec.weight_scale.data(),
                                   .bias = spec.bias.defined() ? spec.bias.f32() : nullptr,
                                   .channels = spec.weight.dim(0),
                                   .epilogue = spec.epilogue};
  kernels::backend(Device::kCpu).fold_scales({scales, folded.bias.data(), folded.factor.data()});
  folded.epilogue = kernels::folded_epilogue(scales);
  return folded;
}

}  // namespace sextant::deploy
