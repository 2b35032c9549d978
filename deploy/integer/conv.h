// SPDX-License-Identifier: Apache-2.0
// The sums of an integer convolution, computed naively: the reference for faster implementations.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace sextant::deploy {

// sums[n,h,w,o] = sum over the kernel and the channels of the group of
//   (x - zero_point) * (weight - weight_zero_point)
// Outside the image x is zero_point. The caller ensures that every sum fits 32 bits
// (largest_sum()).
struct IntegerConv {
  int64_t batch = 1, height = 0, width = 0;  // of the source
  int64_t out_height = 0, out_width = 0;
  int64_t stride = 1, padding = 0, groups = 1;
  int32_t zero_point = 0;
  int32_t weight_zero_point = 0;
  Tensor weight;  // I8 [O,kh,kw,I/groups]

  int64_t out_rows() const { return batch * out_height * out_width; }
};

// `pitch`: elements from one pixel of x to the next. sums: dense.
template <class T>
void integer_conv(const IntegerConv& p, const T* x, int64_t pitch, int32_t* sums);  // u8, s8

// The largest |sum| of any output channel for sources in [low, high], reached where positive
// weights meet one end and negative weights the other.
int64_t largest_sum(const IntegerConv& p, int32_t low, int32_t high);

}  // namespace sextant::deploy
