// SPDX-License-Identifier: Apache-2.0
// Kernels of quantization-aware training: quantization of real numbers, and the epilogue of integer
// convolutions, each with its straight-through gradient. Everything is f32, including integers.
//
// "Level" is the integer that a value rounds to, "steps" the value in units of its scale before
// rounding. Gradients are by values (integer times scale), never by integers. They flow where the
// level is within [low, high], and stop where it is clipped to an end.
//
// The scale's gradient is LSQ's (Esser et al. 2020, equation 3): sum of dy * (level - steps), or of
// dy * end where clipped. Sums are cut by size alone and added in order, in double.
//
// On CUDA integers equal the CPU's except behind an activation with an exponential.
#pragma once

#include <cstdint>

#include "kernels/epilogue.h"

namespace sextant::kernels {

// q = clamp(round_half_even(x / scale), low, high) over [channels, inner], a scale per channel.
struct Quantize {
  const float* x = nullptr;
  const float* scale = nullptr;
  int64_t channels = 1;
  int64_t inner = 0;
  float low = -127.0f;
  float high = 127.0f;
  // x * (1 / scale) in place of x / scale: what deploy does to weights, where it divides
  // activations. The two may round apart.
  bool by_inverse = false;
};
struct QuantizeForward {
  Quantize form;
  float* q = nullptr;
};
struct QuantizeBackward {
  Quantize form;
  const float* dy = nullptr;
  float* dx = nullptr;       // overwritten; may be dy, may be null
  double* dscale = nullptr;  // [channels], overwritten; may be null
};

// y = q * scale over [channels, inner].
struct Dequantize {
  const float* q = nullptr;
  const float* scale = nullptr;
  int64_t channels = 1;
  int64_t inner = 0;
  float* y = nullptr;
};

// The epilogue of an integer convolution (kernels/conv_int8.h), [rows, channels]:
//   y = clamp(round_half_even(epilogue((sum + bias) * factor)), low, high)
struct Requantize {
  const float* sums = nullptr;      // integers
  const float* bias = nullptr;      // [channels], in units of the sums
  const float* factor = nullptr;    // [channels]
  const float* residual = nullptr;  // [rows, channels], may be y; or null
  int64_t rows = 0;
  int64_t channels = 0;
  Epilogue epilogue{};
  bool round = true;  // false: the result is real, neither rounded nor clamped
  float low = -128.0f;
  float high = 127.0f;
  const float* gain = nullptr;  // [channels], positive, behind the activation; or null
};
struct RequantizeForward {
  Requantize form;
  float* y = nullptr;
};
struct RequantizeBackward {
  Requantize form;
  float residual_factor = 1.0f;  // d value / d residual's value behind the activation
  const float* dy = nullptr;
  float* dv = nullptr;         // by the convolution's real result, bias included; overwritten
  float* dresidual = nullptr;  // overwritten; may be null
  double* dscale = nullptr;    // [1], of the result; overwritten; may be null
};

// The scales that are folded into an integer convolution's bias, factor and epilogue. With q
// integers and s scales, source x, weight w, destination y:
//
//   bias = b / (s_x s_w),   factor = s_x s_w / s_y
//
// so that the epilogue works in steps of the destination. An activation that is not positively
// homogeneous takes real numbers: there factor = s_x s_w, activation_scale = 1 / s_y, and a
// residual before it is multiplied by s_y.
struct ConvScales {
  float source = 1.0f;
  float destination = 1.0f;       // 1 where the result is real
  const float* weight = nullptr;  // [channels]
  const float* bias = nullptr;    // [channels], real; or null
  int64_t channels = 0;
  Epilogue epilogue{};  // of real numbers: activation_scale is 1
};
// The epilogue on integers.
Epilogue folded_epilogue(const ConvScales& s);

// Bias and factor [channels], computed in double.
struct FoldScales {
  ConvScales scales;
  float* bias = nullptr;
  float* factor = nullptr;
};

namespace cuda {
int64_t workspace_bytes(const QuantizeBackward& p);
int64_t workspace_bytes(const RequantizeBackward& p);
}  // namespace cuda

}  // namespace sextant::kernels
