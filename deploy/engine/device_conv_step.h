// SPDX-License-Identifier: Apache-2.0
// One convolution on CUDA: f32, f16 or int8.
#pragma once

#include <memory>

#include "deploy/engine/conv_spec.h"

namespace sextant::deploy {

// Puts weights into the precision of the step and on the device once: int8 as quantize_weight()
// gives them, f16 rounded; those of other grouped than depthwise convolutions with zeros between the
// groups, since the kernels have none. Source, destination and residual may have a pitch.
std::unique_ptr<Step> make_device_conv_step(const ConvSpec& spec);

// The weights [O,kh,kw,I/groups] as [O,kh,kw,I].
Tensor without_groups(const Tensor& weight, int64_t groups);

}  // namespace sextant::deploy
