// SPDX-License-Identifier: Apache-2.0
// A transposed convolution y of x is the data gradient of the convolution that makes an x of a y: of
// window k x k, stride k, from oc to ic channels. So its own gradients are that convolution, and that
// convolution's weight gradient with the two exchanged.
#include "kernels/cpu/conv/bias_gradient.h"
#include "kernels/cpu/conv/data_gradient.h"
#include "kernels/cpu/f32_only.h"
#include "kernels/cpu/kernels.h"

namespace sextant::kernels::SEXTANT_CPU {
using namespace cpu;
namespace {

// The convolution from y to x.
Window back_window(const ConvTransposeShape& s) {
  return {.n = s.n,
          .h = s.h * s.k,
          .w = s.w * s.k,
          .ic = s.oc,
          .oh = s.h,
          .ow = s.w,
          .oc = s.ic,
          .kh = s.k,
          .kw = s.k,
          .stride = s.k};
}

// Its weights: of [oc,k,k,ic], from oc to ic.
template <class View, class T>
View back_weights(const ConvTransposeShape& s, T* w) {
  return {w, 1, s.k * s.ic, s.ic, s.k * s.k * s.ic};
}

template <class T>
Pixels<T> x_pixels(const ConvTransposeShape& s, T* x) {
  return pixels_of(x, s.h, s.w, s.ic);
}
template <class T>
Pixels<T> y_pixels(const ConvTransposeShape& s, T* y) {
  return pixels_of(y, s.h * s.k, s.w * s.k, s.oc);
}

}  // namespace

void conv_transpose_forward(const ConvTransposeForward& p) {
  check_f32("conv_transpose_forward", p.dtype);
  const ConvTransposeShape& s = p.shape;
  data_gradient({.window = back_window(s),
                 .w = back_weights<WeightView>(s, f32(p.w)),
                 .dy = x_pixels(s, f32(p.x)),
                 .dx = y_pixels(s, f32(p.y)),
                 .bias = p.bias});
}

void conv_transpose_backward(const ConvTransposeBackward& p) {
  check_f32("conv_transpose_backward", p.dtype);
  const ConvTransposeShape& s = p.shape;
  const Window window = back_window(s);
  const float* const dy = f32(p.dy);
  if (p.dx) {
    F32Operands o;
    o.x = y_pixels(s, dy);
    o.y = x_pixels(s, f32(p.dx));
    make_direct(window, back_weights<WeightView>(s, f32(p.w)))->run(o);
  }
  if (p.dw)
    weight_gradient(window, {.x = y_pixels(s, dy),
                             .dy = x_pixels(s, f32(p.x)),
                             .dw = back_weights<WeightTarget>(s, p.dw)});
  if (p.db) bias_gradient(dy, s.n * s.h * s.k * s.w * s.k, s.oc, p.db);
}

}  // namespace sextant::kernels::SEXTANT_CPU
