// SPDX-License-Identifier: Apache-2.0
// Chooses between cuDNN's convolutions and ours: measures both, checks them against each other, and
// remembers the faster one.
#pragma once

#include <memory>
#include <string>

#include "kernels/conv_choice.h"

namespace sextant::kernels::cuda {

// The convolutions of cuDNN on the current device, for set_conv_library(). Its choices are stored
// in `folder` (which is created; if empty, nothing is stored): choices.json, and the built plans,
// which take seconds each to build and milliseconds to read. An unreadable file is ignored with a
// line on stderr, and rewritten.
//
// A new shape is measured on separate memory, which takes seconds; while a CUDA graph is recorded
// nothing is measured and our kernel is used. A plan is never used if its result differs from ours:
// at all in int8, beyond rounding in float.
std::unique_ptr<ConvLibrary> cudnn_convolutions(const std::string& folder);

// The same measurement without storing the result, for benchmarks and tests. Null pointers in `p`
// tell which operands are not fused; the others are not read.
ConvVerdict measure(const ConvForward& p, Stream stream);
ConvVerdict measure(const ConvBackwardData& p, Stream stream);
ConvVerdict measure(const ConvBackwardWeight& p, Stream stream);
ConvVerdict measure(const ConvInt8Forward& p, Stream stream);

// $SEXTANT_CACHE, or $XDG_CACHE_HOME/sextant, or ~/.cache/sextant, and in it a folder for this
// device and cuDNN; empty when none of these is set, or SEXTANT_CACHE is.
std::string conv_cache_folder();

}  // namespace sextant::kernels::cuda
