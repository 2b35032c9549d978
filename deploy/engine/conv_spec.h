// What a convolution of an engine computes, whatever runs it.
#pragma once

#include <vector>

#include "core/tensor.h"
#include "deploy/engine/step.h"
#include "kernels/conv.h"
#include "kernels/math/activation.h"
#include "kernels/requantize.h"

namespace sextant::deploy {

// y = act(conv(x) + bias) + a residual, or act(conv(x) + bias + a residual), a = residual_scale.
//
// Integer form, with q integers and s scales:
//   v = (sum q_x q_w + bias / (s_x s_w)) * (s_x s_w / s_y)        (act identity, ReLU, leaky ReLU)
//   q_y = saturate(round_half_even(act(v + a q_r) or act(v) + a q_r))
// and for an activation that is not positively homogeneous act(v) is act(v s_y) / s_y. A f32
// destination has s_y = 1 and is not rounded. Saturation is that of the type: -128..127 or 0..255.
struct ConvSpec {
  Place source;
  Place destination;                         // dense on the CPU, like the source
  int64_t batch = 1, height = 0, width = 0;  // of the source
  int64_t out_height = 0, out_width = 0;
  int64_t stride = 1, padding = 0, groups = 1;
  Activation activation = Activation::kIdentity;
  bool residual = false;
  // CUDA and our own int8 kernel: where the residual is; of the destination's type and channels.
  // Else it lies in the destination before the step and is overwritten.
  Place residual_source;
  bool residual_before_activation = false;
  float residual_scale = 1.0f;
  Tensor weight;  // f32 [O,kh,kw,I/groups], on the host
  Tensor bias;    // f32 [O] or empty

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

// What follows the sums of the integer form.
struct ConvEpilogue {
  std::vector<float> bias, factor;  // of each output channel
  kernels::Requantize form;         // its activation and scales; the rest is not set
};
ConvEpilogue integer_epilogue(const ConvSpec& spec);

}  // namespace sextant::deploy
