// 2-D convolution: forward, data gradient, weight gradient. Three kernels, three names.
//
// f32. Activations NHWC, weights [oc, kh, kw, ic / groups]. Square stride and symmetric padding.
// Cost: 2 * n * oh * ow * oc * kh * kw * ic / groups FLOPs each.
#pragma once

#include <cstdint>

#include "kernels/activation.h"

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

// y = act(conv(x, w) + bias)
struct ConvForward {
  ConvShape shape;
  const float* x = nullptr;
  const float* w = nullptr;
  const float* bias = nullptr;             // [oc] or null
  float* y = nullptr;                      // overwritten, unless accumulate
  bool accumulate = false;                 // y += conv(x, w); bias must be null and act identity
  Activation act = Activation::kIdentity;  // kIdentity or kReLU
};

// dx = (or +=, with accumulate) the gradient with respect to x
struct ConvBackwardData {
  ConvShape shape;
  const float* dy = nullptr;
  const float* w = nullptr;
  float* dx = nullptr;
  bool accumulate = false;
};

// dw = the gradient with respect to w; db likewise unless null. Both overwritten.
struct ConvBackwardWeight {
  ConvShape shape;
  const float* x = nullptr;
  const float* dy = nullptr;
  float* dw = nullptr;
  float* db = nullptr;
};

namespace cpu {
// oneDNN; primitives are cached by shape. Callable from one thread at a time (others wait).
void conv_forward(const ConvForward& p);
void conv_backward_data(const ConvBackwardData& p);
void conv_backward_weight(const ConvBackwardWeight& p);
}  // namespace cpu

// Transposed convolution whose kernel equals its stride k (no padding): every input pixel makes a
// k x k patch of its own. Input [n,h,w,ic], weight [oc,k,k,ic], output [n,h*k,w*k,oc].
struct ConvTransposeShape {
  int64_t n = 1, h = 1, w = 1, ic = 1, oc = 1, k = 2;
  int64_t y_numel() const { return n * h * k * w * k * oc; }
};

struct ConvTransposeForward {
  ConvTransposeShape shape;
  const float* x = nullptr;
  const float* w = nullptr;
  const float* bias = nullptr;  // [oc] or null
  float* y = nullptr;
};

struct ConvTransposeBackward {
  ConvTransposeShape shape;
  const float* x = nullptr;
  const float* w = nullptr;
  const float* dy = nullptr;
  float* dx = nullptr;  // each of these: overwritten, null when not wanted
  float* dw = nullptr;
  float* db = nullptr;
};

namespace cpu {
void conv_transpose_forward(const ConvTransposeForward& p);
void conv_transpose_backward(const ConvTransposeBackward& p);
}  // namespace cpu

}  // namespace sextant::kernels
