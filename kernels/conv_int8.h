// SPDX-License-Identifier: Apache-2.0
// Forward 2-D convolution in int8, for deployment: exact sums of integer products, followed by
// float operations in a fixed order, so that every backend gives the same integers.
//
//   v = (float(sum x w) + bias) * factor
//   y = saturate(round_half_even(epilogue(v)))   (kernels/epilogue.h), not rounded where y is f32
//
// or y = sum, where y is i32 (on the CPU).
//
// The caller folds scales into bias, factor and the epilogue (kernels/requantize.h, ConvScales).
// Ranges are symmetric, so padding is the integer 0. An activation with an exponential may differ
// between backends by that function's rounding.
//
// CUDA: groups must be 1 or the convolution depthwise, kh kw ic at most 65,536 (a sum fits 32 bits). Any number of channels,
// fastest with multiples of 16. Throws Error otherwise.
#pragma once

#include <memory>
#include <vector>

#include "core/dtype.h"
#include "kernels/conv.h"

namespace sextant::kernels {

struct ConvInt8Forward {
  ConvShape shape;
  const void* x = nullptr;         // [n,h,w,ic] of x_type: kI8 or kU8
  const int8_t* w = nullptr;       // [oc,kh,kw,ic / groups]
  const float* bias = nullptr;     // [oc], in units of the sum; or null
  const float* factor = nullptr;   // [oc]
  const void* residual = nullptr;  // like y, may be y; or null
  void* y = nullptr;               // [n,oh,ow,oc] of y_type: kI8, kU8, kF32 or kI32
  DType x_type = DType::kI8;
  DType y_type = DType::kI8;
  Epilogue epilogue{};
  // Elements from one pixel to the next; 0: the number of channels.
  int64_t x_pitch = 0, y_pitch = 0, residual_pitch = 0;
  const float* gain = nullptr;  // [oc], behind the activation (kernels/epilogue.h); or null
};

namespace cpu {
class Int8Conv;
// A convolution whose weights are packed once, for the instruction set in use (kernels/cpu/isa.h).
// All instruction sets and algorithms give the same integers.
class ConvInt8 {
 public:
  // w: [oc,kh,kw,ic / groups]. kAuto: the fastest for the shape. Throws Error for an algorithm that
  // does not support the shape or weights.
  ConvInt8(const ConvShape& shape, const int8_t* w, ConvAlgorithm algorithm = ConvAlgorithm::kAuto);
  ConvInt8(ConvInt8&&) noexcept;
  ConvInt8& operator=(ConvInt8&&) noexcept;
  ~ConvInt8();
  // p.shape and p.w must be those given to the constructor. Thread-safe.
  void operator()(const ConvInt8Forward& p) const;
  int64_t weight_bytes() const;
  ConvAlgorithm algorithm() const { return algorithm_; }

 private:
  ConvShape shape_;
  ConvAlgorithm algorithm_;
  std::vector<std::unique_ptr<Int8Conv>> groups_;
};
}  // namespace cpu

}  // namespace sextant::kernels
