// SPDX-License-Identifier: Apache-2.0
// Converts a convolution from real numbers to integers. The only part of the fully integer mode
// that uses floating point, once, when an engine is built.
//
// With scales s (of the source, per output channel of the weight, of the destination):
//   weight = quantize_weight(w, s_w)                         8 bits
//   bias   = round_half_even(b / (s_x s_w))                  32 bits; what is left goes into the
//                                                            product, as Rescale::fraction
//   factor = s_x s_w / s_y                                   a Multiplier (multiplier.h)
// (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
// Integer-Arithmetic-Only Inference", section 2.2.) Two kinds of channels need care: one whose
// weights are all zero gets the s_w that resolves its bias to 16 bits of a step, and one whose bias
// would exceed 2^30 gets an s_w that is larger by a power of two, with which its weights are then
// rounded.
#pragma once

#include <optional>
#include <vector>

#include "core/tensor.h"
#include "deploy/graph/graph.h"
#include "deploy/integer/conv.h"
#include "deploy/integer/rescale.h"
#include "kernels/math/activation.h"

namespace sextant::deploy {

// value = (q - zero_point) * scale
struct AffineScale {
  double scale = 1.0;
  int32_t zero_point = 0;
};

struct RealConv {
  Tensor weight;  // f32 [O,kh,kw,I/groups]
  Tensor bias;    // f32 [O] or empty
  Tensor gain;    // likewise: factors behind the activation
  std::vector<float> weight_scale;
  // Asymmetric weights: clamp(round_half_even(zero point + w / s_w), 0, 255) in f32, stored minus
  // 128.
  std::optional<int32_t> weight_zero_point;
  AffineScale source, destination;
  int32_t low = 0, high = 255;  // limits of the destination's type
  int32_t source_low = 0, source_high = 255;
  Activation activation = Activation::kIdentity;
  ResidualPlace residual = ResidualPlace::kNone;
  double residual_scale =
      1.0;  // factor of the residual, whose scale is the destination's; both have zero point 0
};

// Sets p.weight and both zero points; returns the rest. Throws Error when a sum can overflow 32
// bits or a factor is out of range.
Rescale lower_conv(const RealConv& real, IntegerConv& p);

// ---- graphs

// Throws Error naming the first node that has no integer form: one in float, or one without a range
// where a sum or comparison needs it.
void check_integer(const Graph& graph);

// The value of one step of a tensor: from its range, or, without one, 2^-kHeadBits for a head
// output and 2^-kResultBits for decode's result. Both of these are stored in 32 bits.
double integer_scale(const Graph& graph, int tensor);

// Lowers a conv or deconv node (in its pointwise form); `shapes` are those of all tensors. Fills
// all of p.
Rescale lower_node(const Graph& graph, const Node& node, const std::vector<Shape>& shapes,
                   IntegerConv& p);

}  // namespace sextant::deploy
