// SPDX-License-Identifier: Apache-2.0
// One convolution on the CPU: f32, int8, sums of integers, or int8 simulated in f32. Source,
// destination and residual may have a pitch.
#pragma once

#include <memory>

#include "deploy/engine/conv_spec.h"

namespace sextant::deploy {

// Packs the weights once, for the instruction set in use (kernels/cpu/isa.h).
std::unique_ptr<Step> make_conv_step(const ConvSpec& spec);

// Of a spec with `simulate` and `integer`. `sums`: scratch of the destination's size, f32, dense.
std::unique_ptr<Step> make_simulated_conv_step(const ConvSpec& spec, const Place& sums);

}  // namespace sextant::deploy
