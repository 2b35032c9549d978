// SPDX-License-Identifier: Apache-2.0
// oneDNN's convolutions, of whatever version it was built with: the peer of ours.
#pragma once

#include <functional>
#include <string>

#include "kernels/conv.h"
#include "kernels/conv_int8.h"

namespace sextant::bench {

// "2.6.3", or empty where the benchmark was built without it (SEXTANT_ONEDNN).
std::string onednn_version();

// What computes p, with weights in oneDNN's order and dense tensors; empty without oneDNN. Of p,
// accumulate and residual are left out.
std::function<void()> onednn_forward(const kernels::ConvForward& p);
// Of p, accumulate and bias are left out; with a reordering of the weights in each call, as training
// needs it.
std::function<void()> onednn_backward_data(const kernels::ConvBackwardData& p);
std::function<void()> onednn_backward_weight(const kernels::ConvBackwardWeight& p);
// Without VNNI its sums may saturate.
std::function<void()> onednn_int8(const kernels::ConvInt8Forward& p);

}  // namespace sextant::bench
