// One convolution in int8 by our own kernel (kernels/conv_int8.h).
#pragma once

#include <memory>

#include "deploy/engine/conv_spec.h"

namespace sextant::deploy {

// `spec` is integer and not simulated. Sums are exact.
std::unique_ptr<Step> make_conv_int8_step(const ConvSpec& spec);

}  // namespace sextant::deploy
