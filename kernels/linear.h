// SPDX-License-Identifier: Apache-2.0
// Fully connected layer: y = x w^T + bias.
//
// x [rows, in], w [out, in], y [rows, out]; these, dx and dy are of type `dtype`; bias, dw and db
// are f32. CPU: f32 only. CUDA: F32 (multiplied as f32, not as TF32), F16, BF16; sums are f32.
//
// It is a 1x1 convolution over `rows` pixels, and runs as one unless a library is faster.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/stream.h"
#include "kernels/conv.h"

namespace sextant::kernels {

struct LinearShape {
  int64_t rows = 1, in = 1, out = 1;
};

struct LinearForward {
  LinearShape shape;
  const void* x = nullptr;
  const void* w = nullptr;
  const float* bias = nullptr;  // [out] or null
  void* y = nullptr;            // overwritten
  DType dtype = DType::kF32;
};

struct LinearBackward {
  LinearShape shape;
  const void* x = nullptr;
  const void* w = nullptr;
  const void* dy = nullptr;
  void* dx = nullptr;  // each of these: overwritten, null when not wanted; db only with dw
  float* dw = nullptr;
  float* db = nullptr;
  DType dtype = DType::kF32;
};

// Another implementation of linear layers on CUDA (cuBLAS;
// kernels/cuda/libraries/cublas_linear.cpp). Each function returns false without doing anything for
// parameters that it does not support.
class LinearLibrary {
 public:
  virtual ~LinearLibrary() = default;
  virtual bool run(const LinearForward& p, Stream stream) = 0;
  virtual bool run(const LinearBackward& p, Stream stream) = 0;
};
// Null if none is set; setting null removes it.
LinearLibrary* linear_library();
void set_linear_library(LinearLibrary* library);

// The same, as convolutions. They throw Error for an impossible shape.
ConvForward as_convolution(const LinearForward& p);
ConvBackwardData data_as_convolution(const LinearBackward& p);
ConvBackwardWeight weight_as_convolution(const LinearBackward& p);

}  // namespace sextant::kernels
