// One convolution on oneDNN: f32, int8, or int8 simulated in f32.
#pragma once

#include <memory>

#include "deploy/conv_spec.h"

namespace sextant::deploy {

// Reorders the weights once. `sums`: scratch of the destination's size, f32, for a simulation.
// Throws Error when oneDNN refuses.
std::unique_ptr<Step> make_conv_step(const ConvSpec& spec, const Place* sums);

// Whether this machine adds products of 8-bit integers in 32 bits. Without VNNI, oneDNN adds pairs
// of them in 16 bits, saturating.
bool has_exact_int8();

// Whether a step made with `sums` gives every sum up to `largest` exactly: never without
// has_exact_int8(). With it the brgconv kernels store sums as they are, the others by way of f32,
// which holds integers below 2^24.
bool sums_are_exact(const Step& step, int64_t largest);

}  // namespace sextant::deploy
