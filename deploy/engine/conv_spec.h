// SPDX-License-Identifier: Apache-2.0
// What a convolution of an engine computes, whatever runs it.
#pragma once

#include <vector>

#include "core/tensor.h"
#include "deploy/engine/step.h"
#include "kernels/conv.h"
#include "kernels/requantize.h"

namespace sextant::deploy {

// y = the epilogue of conv(x) + bias (kernels/epilogue.h). In integers it is the formula of
// kernels/conv_int8.h with scales folded as kernels/requantize.h does it (ConvScales); a f32
// destination has scale 1 and is not rounded. Saturation is that of the type: -128..127 or 0..255.
struct ConvSpec {
  Place source;
  Place destination;
  int64_t batch = 1, height = 0, width = 0;  // of the source
  int64_t out_height = 0, out_width = 0;
  int64_t stride = 1, padding = 0, groups = 1;
  kernels::Epilogue epilogue{};  // of real numbers
  bool residual = false;
  Place residual_source;  // of the destination's type and channels
  Tensor weight;          // f32 [O,kh,kw,I/groups], on the host
  Tensor bias;            // f32 [O] or empty
  Tensor gain;            // likewise

  bool integer = false;
  bool simulate = false;  // source and destination hold integers as f32
  float source_scale = 1.0f;
  bool source_unsigned = false;
  float destination_scale = 1.0f;
  bool destination_unsigned = false;
  bool round = false;  // destination holds integers
  std::vector<float> weight_scale;

  // The destination (i32, dense) takes the sums of the integer products and nothing else happens;
  // weight is I8. Of the fields above only source, destination and geometry count.
  bool sums = false;
};

// Of the weight and the source. Throws Error where the destination has another size.
kernels::ConvShape shape_of(const ConvSpec& spec);

// The scales of the integer form, folded.
struct FoldedScales {
  std::vector<float> bias, factor;  // of each output channel
  kernels::Epilogue epilogue{};
};
FoldedScales fold_scales(const ConvSpec& spec);

}  // namespace sextant::deploy
