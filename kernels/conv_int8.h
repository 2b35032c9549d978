// 2-D convolution in int8, forward, as deployed: sums of integer products, exact, then a few float
// operations in a fixed order, so that every backend gives the same integers.
//
//   v = (float(sum x w) + bias) * factor
//   y = saturate(round_half_even(epilogue(v)))   (kernels/epilogue.h), not rounded where y is f32
//
// or y = sum, where y is i32 (on the CPU).
//
// The caller folds scales into bias, factor and the epilogue (kernels/requantize.h, ConvScales).
// Zero is zero in every range (symmetric quantization), so padding is zero. An activation with an
// exponential may differ between backends by that function's rounding.
//
// CUDA: groups must be 1, kh kw ic at most 65,536 (a sum fits 32 bits). Any number of channels,
// fastest with multiples of 16. Throws Error for what it does not do.
#pragma once

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
  // Elements from one pixel to the next; 0: the channels.
  int64_t x_pitch = 0, y_pitch = 0, residual_pitch = 0;
};

namespace cpu {
// For CPUs without VNNI: integers are widened to 16 bits and multiplied in pairs into 32 (AVX2's
// vpmaddwd), which is exact and twice the products of a f32 multiply-add.
class ConvInt8 {
 public:
  // Keeps the weights [oc,kh,kw,ic / groups] in its own order, 2 bytes each.
  ConvInt8(const ConvShape& shape, const int8_t* w);
  // p.shape and p.w are the constructor's. Callable from several threads.
  void operator()(const ConvInt8Forward& p) const;
  int64_t weight_bytes() const { return static_cast<int64_t>(weights_.size()) * 2; }

 private:
  ConvShape shape_;
  std::vector<int16_t> weights_;  // [groups, blocks of channels, kh, kw, pairs of ic, channel, 2]
};
}  // namespace cpu

}  // namespace sextant::kernels
