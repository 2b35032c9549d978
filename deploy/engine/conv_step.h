// One convolution on the CPU: f32, int8, or int8 simulated in f32. oneDNN; where its int8 is not
// exact, our own kernel.
#pragma once

#include <memory>

#include "deploy/engine/conv_spec.h"

namespace sextant::deploy {

// Reorders the weights once. `sums`: scratch of the destination's size, f32, for a simulation.
// Throws Error when oneDNN refuses.
std::unique_ptr<Step> make_conv_step(const ConvSpec& spec, const Place* sums);

// Whether that step reads the residual at spec.residual_source, as it lies; else it waits in the
// destination.
bool reads_residual_apart(const ConvSpec& spec);

// The step of a spec with `sums`, each exact; `largest` is what they can reach. oneDNN's brgconv
// kernels store sums as they are, the others by way of f32, which holds integers below 2^24.
std::unique_ptr<Step> make_exact_sums_step(const ConvSpec& spec, int64_t largest);

}  // namespace sextant::deploy
