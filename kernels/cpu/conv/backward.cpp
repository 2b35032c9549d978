// SPDX-License-Identifier: Apache-2.0
// The gradients of the convolution in f32 behind their contracts.
#include "kernels/cpu/conv/bias_gradient.h"
#include "kernels/cpu/conv/data_gradient.h"
#include "kernels/cpu/f32_only.h"
#include "kernels/cpu/kernels.h"

namespace sextant::kernels::SEXTANT_CPU {
using namespace cpu;
void conv_backward_data(const ConvBackwardData& p) {
  check_f32("conv_backward_data", p.dtype);
  const ConvShape& s = p.shape;
  const bool depthwise = is_depthwise(s);
  const Window window = depthwise ? depthwise_window_of(s) : window_of(s);
  const WeightView w = dense_weights(s, f32(p.w));
  for (int64_t g = 0; g < (depthwise ? 1 : s.groups); ++g)
    data_gradient({.window = window,
                   .depthwise = depthwise,
                   .w = w.from(g * window.oc),
                   .dy = pixels_of(f32(p.dy) + g * window.oc, s.oh(), s.ow(), s.oc),
                   .dx = pixels_of(f32(p.dx) + g * window.ic, s.h, s.w, s.ic),
                   .bias = p.bias ? p.bias + g * window.ic : nullptr,
                   .accumulate = p.accumulate});
}

void conv_backward_weight(const ConvBackwardWeight& p) {
  check_f32("conv_backward_weight", p.dtype);
  const ConvShape& s = p.shape;
  const bool depthwise = is_depthwise(s);
  const int64_t calls = depthwise ? 1 : s.groups, inputs = s.ic / s.groups;
  const Window window = depthwise ? depthwise_window_of(s) : window_of(s);
  const bool winograd = !depthwise && fastest(window) == ConvAlgorithm::kWinograd4;
  for (int64_t g = 0; g < calls; ++g) {
    const int64_t filter = s.kh * s.kw * inputs;
    const F32Gradient gradient{
        .x = pixels_of(f32(p.x) + g * window.ic, s.h, s.w, s.ic),
        .dy = pixels_of(f32(p.dy) + g * window.oc, s.oh(), s.ow(), s.oc),
        .dw = {p.dw + g * window.oc * filter, filter, s.kw * inputs, inputs, 1}};
    if (depthwise)
      depthwise_weight_gradient(window, gradient);
    else if (winograd)
      winograd_weight_gradient(window, gradient);
    else
      weight_gradient(window, gradient);
  }
  if (p.db) bias_gradient(f32(p.dy), s.n * s.oh() * s.ow(), s.oc, p.db);
}

}  // namespace sextant::kernels::SEXTANT_CPU
