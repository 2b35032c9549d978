// cuDNN's convolutions beside ours: measured, checked against each other, the faster one
// remembered.
#pragma once

#include <memory>
#include <string>

#include "kernels/conv_choice.h"

namespace sextant::kernels::cuda {

// The convolutions of cuDNN on the current device, for set_conv_library(). What it learns is kept
// in `folder` (created; empty: nothing is kept): choices.json, and the built plans, which cost
// seconds each to build and milliseconds to read. A file there that cannot be read is ignored with
// a line on stderr, and written anew.
//
// A shape that it has not met is measured on memory of its own, which takes seconds; while a CUDA
// graph is recorded nothing is measured, and ours is taken. A plan whose result is not ours, to the
// integer in int8, within rounding in float, is never taken.
std::unique_ptr<ConvLibrary> cudnn_convolutions(const std::string& folder);

// The same measurement without a memory: for benchmarks and tests. Null pointers of `p` say what is
// not fused; the others are not read.
ConvVerdict measure(const ConvForward& p, Stream stream);
ConvVerdict measure(const ConvBackwardData& p, Stream stream);
ConvVerdict measure(const ConvBackwardWeight& p, Stream stream);
ConvVerdict measure(const ConvInt8Forward& p, Stream stream);

// $SEXTANT_CACHE, or $XDG_CACHE_HOME/sextant, or ~/.cache/sextant, and in it a folder for this
// device and cuDNN; empty when none of these is set, or SEXTANT_CACHE is.
std::string conv_cache_folder();

}  // namespace sextant::kernels::cuda
