// SPDX-License-Identifier: Apache-2.0
// Differentiable functions on quantized tensors, for quantization-aware training.
//
// A quantized Variable holds integers as f32; its range gives their scale. Its gradient is with
// respect to the value (integer times scale), so it means the same as that of a tensor of real
// numbers, and concat, slice, max_pool2d and upsample_nearest work on such Variables unchanged. The
// result is the same function as quantize-dequantize around real convolutions, but the sums are
// those of the int8 engine to the bit (as in deploy/engine/simulate.h), and one pass follows each
// convolution instead of three. Gradients: kernels/requantize.h.
//
// All tensors lie on one device and stay there. A function waits for the device only to read the
// amax of a range whose value is not `known`.
#pragma once

#include <optional>

#include "kernels/epilogue.h"
#include "layers/functional.h"

namespace sextant {

// The range of a tensor, as in deploy::TensorInfo: scale = amax / 255 with levels 0..255, or
// amax / 127 with levels -128..127 (values saturate as the type does).
//
// When amax requires a gradient, it is learned (LSQ, Esser et al. 2020). It then gets the step's
// gradient, times LSQ's 1 / sqrt(values per image * highest level), times the highest level, so
// that descent on amax moves the step as far as descent on the step would.
struct QuantRange {
  Variable amax;  // [1], positive
  bool is_unsigned = false;
  // amax as a number, if the caller has it: then nothing waits for amax's device. 0: not known.
  float known = 0.0f;

  float low() const { return is_unsigned ? 0.0f : -128.0f; }
  float high() const { return is_unsigned ? 255.0f : 127.0f; }
  float value() const { return known > 0 ? known : static_cast<float>(amax.data().item()); }
  float scale() const { return value() / high(); }
};

// Real numbers to integers, and back.
Variable quantize(const Variable& x, const QuantRange& range);
Variable dequantize(const Variable& q, const QuantRange& range);
inline Variable fake_quant(const Variable& x, const QuantRange& range) {
  return dequantize(quantize(x, range), range);
}

// A convolution whose operands are integers: kernels/conv_int8.h has the formula.
struct QuantizedConv {
  Variable weight;  // real, [O,kh,kw,I/groups]; rounded to -127..127 times weight_scale
  // [O]; learned by LSQ if it requires a gradient, with factor 1 / sqrt(weights per channel * 127).
  Variable weight_scale;
  Variable bias;  // real, [O] or undefined
  ConvParams params;
  bool transposed = false;       // kernel equal to stride, as conv_transpose2d; no residual
  kernels::Epilogue epilogue{};  // of real numbers
  Tensor gain;                   // [O], positive, behind the activation; or undefined
  Variable residual;             // in the destination's range (real without one), or undefined
  QuantRange source;
  std::optional<QuantRange> destination;  // if empty, the result is real
};
Variable quantized_conv(const Variable& x, const QuantizedConv& conv);

// a + factor * b; a, b and the result share one range.
Variable quantized_add(const Variable& a, const Variable& b, float factor, const QuantRange& range);

}  // namespace sextant
