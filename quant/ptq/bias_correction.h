// SPDX-License-Identifier: Apache-2.0
// Bias correction (Nagel et al. 2019, section 4.2), empirical: quantized weights and inputs shift
// the mean of a convolution's result; the bias is corrected to remove the shift, channel by
// channel.
#pragma once

#include "quant/ptq/layer_samples.h"

namespace sextant::quant {

// Subtracts the shift of the quantized mean from the node's bias; a node without a bias gets one.
// The bias tensor is replaced, not modified in place. Returns the root mean square of the shifts.
double correct_bias(deploy::Node& node, const LayerSample& exact, const LayerSample& quantized);

}  // namespace sextant::quant
