// 2-D convolution: forward, data gradient, weight gradient. Three kernels, three names.
//
// Activations NHWC, weights [oc, kh, kw, ic / groups]. Square stride and symmetric padding.
// Cost: 2 * n * oh * ow * oc * kh * kw * ic / groups FLOPs each.
//
// x, w, y, their gradients dx and dy, and residual are of type `dtype`; bias, dw and db are f32.
// CPU: f32 only; oneDNN, primitives cached by shape; callable from one thread at a time (others
// wait). CUDA: F32, F16, BF16; sums are f32. Our own implicit matrix products
// (kernels/cuda/conv/tile.cuh): groups must be 1; any number of channels, fastest with multiples
// of 8 and tensors aligned to 16 bytes. No atomics: results repeat bit for bit. Throws Error for
// groups, another dtype, a shape without output.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/epilogue.h"

namespace sextant::kernels {

struct ConvShape {
  int64_t n = 1, h = 1, w = 1, ic = 1;
  int64_t oc = 1, kh = 1, kw = 1;
  int64_t stride = 1, pad = 0, groups = 1;

  int64_t oh() const { return (h + 2 * pad - kh) / stride + 1; }
  int64_t ow() const { return (w + 2 * pad - kw) / stride + 1; }
  int64_t x_numel() const { return n * h * w * ic; }
  int64_t y_numel() const { return n * oh() * ow() * oc; }
  int64_t w_numel() const { return oc * kh * kw * (ic / groups); }
  double flops() const {
    return 2.0 * static_cast<double>(y_numel()) * static_cast<double>(kh * kw * (ic / groups));
  }
  auto operator<=>(const ConvShape&) const = default;
};

// How f32 is multiplied on CUDA: 3xTF32 on tensor cores (each factor as the sum of two tf32, error
// about 2^-22 of a product), or by fused multiply-adds.
enum class ConvPrecision { k3xTF32, kFma };

// y = the epilogue of conv(x, w) + bias (kernels/epilogue.h)
struct ConvForward {
  ConvShape shape;
  const void* x = nullptr;
  const void* w = nullptr;
  const float* bias = nullptr;     // [oc] or null
  void* y = nullptr;               // overwritten, unless accumulate
  bool accumulate = false;         // y += conv(x, w); without bias, residual and activation
  Epilogue epilogue{};             // CPU: identity or ReLU
  const void* residual = nullptr;  // like y, may be y; or null. CUDA only
  DType dtype = DType::kF32;
  ConvPrecision precision = ConvPrecision::k3xTF32;
  // CUDA only. Elements from one pixel to the next; 0: the channels.
  int64_t x_pitch = 0, y_pitch = 0, residual_pitch = 0;
};

// dx = (or +=, with accumulate) the gradient with respect to x
struct ConvBackwardData {
  ConvShape shape;
  const void* dy = nullptr;
  const void* w = nullptr;
  void* dx = nullptr;
  bool accumulate = false;
  DType dtype = DType::kF32;
  ConvPrecision precision = ConvPrecision::k3xTF32;
  const float* bias = nullptr;  // [ic], added to dx: for transposed convolutions. CUDA only
};

// dw = the gradient with respect to w; db likewise unless null. Both overwritten.
struct ConvBackwardWeight {
  ConvShape shape;
  const void* x = nullptr;
  const void* dy = nullptr;
  float* dw = nullptr;
  float* db = nullptr;
  DType dtype = DType::kF32;
  ConvPrecision precision = ConvPrecision::k3xTF32;
};

// Transposed convolution whose kernel equals its stride k (no padding): every input pixel makes a
// k x k patch of its own. Input [n,h,w,ic], weight [oc,k,k,ic], output [n,h*k,w*k,oc].
struct ConvTransposeShape {
  int64_t n = 1, h = 1, w = 1, ic = 1, oc = 1, k = 2;
  int64_t y_numel() const { return n * h * k * w * k * oc; }
};

// Types as for ConvForward. On CUDA through the products of the convolutions.
struct ConvTransposeForward {
  ConvTransposeShape shape;
  const void* x = nullptr;
  const void* w = nullptr;
  const float* bias = nullptr;  // [oc] or null
  void* y = nullptr;
  DType dtype = DType::kF32;
  ConvPrecision precision = ConvPrecision::k3xTF32;
};

struct ConvTransposeBackward {
  ConvTransposeShape shape;
  const void* x = nullptr;
  const void* w = nullptr;
  const void* dy = nullptr;
  void* dx = nullptr;  // each of these: overwritten, null when not wanted
  float* dw = nullptr;
  float* db = nullptr;
  DType dtype = DType::kF32;
  ConvPrecision precision = ConvPrecision::k3xTF32;
};

namespace cuda {
int64_t workspace_bytes(const ConvBackwardWeight& p);
int64_t workspace_bytes(const ConvTransposeForward& p);
int64_t workspace_bytes(const ConvTransposeBackward& p);
}  // namespace cuda

}  // namespace sextant::kernels
