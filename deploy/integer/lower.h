// From a convolution in real numbers to one in integers. The only part of the fully integer mode
// that computes with fractions, once, when an engine is built.
//
// With scales s (of the source, per output channel of the weight, of the destination):
//   weight = quantize_weight(w, s_w)                         8 bits
//   bias   = round_half_even(b / (s_x s_w))                  32 bits; what is left goes into the
//                                                            product, as Rescale::fraction
//   factor = s_x s_w / s_y                                   a Multiplier; see integer_rescale.h
// (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
// Integer-Arithmetic-Only Inference", section 2.2.) Two channels in need of care: one whose weights
// are all zero takes the s_w that gives its bias 16 bits of a step, and one whose bias would leave
// 2^30 takes an s_w that is larger by a power of two, in which its weights are then rounded.
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
  std::vector<float> weight_scale;
  // Asymmetric weights: clamp(round_half_even(zero point + w / s_w), 0, 255) in f32, held less 128.
  std::optional<int32_t> weight_zero_point;
  AffineScale source, destination;
  int32_t low = 0, high = 255;  // what the destination's type holds
  int32_t source_low = 0, source_high = 255;
  Activation activation = Activation::kIdentity;
  ResidualPlace residual = ResidualPlace::kNone;
  double residual_scale =
      1.0;  // its factor; it has the destination's scale, and both have zero point 0
};

// Sets p.weight and both zero points; returns the rest. Throws Error when a sum can
// leave 32 bits or a factor is out of range.
Rescale lower_conv(const RealConv& real, IntegerConv& p);

// ---- of a graph

// Throws Error naming the first node that has no integer form: one kept in float, or without a
// range where a sum or a comparison needs one.
void check_integer(const Graph& graph);

// The value of one step of a tensor: its range's, or, without one, that of a head output
// (2^-kHeadBits) or of decode's result (2^-kResultBits). Both are held in 32 bits.
double integer_scale(const Graph& graph, int tensor);

// A conv or deconv node (as its pointwise form), with `shapes` of all tensors. Fills p whole.
Rescale lower_node(const Graph& graph, const Node& node, const std::vector<Shape>& shapes,
                   IntegerConv& p);

}  // namespace sextant::deploy
