// Bias correction (Nagel et al. 2019, section 4.2), empirical: quantized weights and inputs shift
// the mean of a convolution's result; the bias takes the shift away, channel by channel.
#pragma once

#include "quant/ptq/layer_samples.h"

namespace sextant::quant {

// Subtracts from the node's bias what the quantized mean has too much; a node without bias gets
// one. The bias is replaced, not written to. Returns the root mean square of the shifts.
double correct_bias(deploy::Node& node, const LayerSample& exact, const LayerSample& quantized);

}  // namespace sextant::quant
