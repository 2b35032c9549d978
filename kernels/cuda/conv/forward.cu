// SPDX-License-Identifier: Apache-2.0
// Convolution forward as a matrix product: output pixels x output channels, summed over taps and
// input channels, with the operand gathered from the input on the fly. Depthwise ones without one.
#include "kernels/cuda/conv/depthwise.cuh"

namespace sextant::kernels::cuda {

void conv_forward(const ConvForward& p, void*, Stream stream) {
  const ConvShape& s = p.shape;
  check_conv_shape("conv_forward", s);
  check(!p.accumulate || (!p.bias && !p.gain && !p.residual && p.epilogue == Epilogue{}),
        "conv_forward: accumulate excludes bias, residual and activation");
  check(p.epilogue.activation_scale == 1.0f, "conv_forward: activation_scale {}, must be 1",
        p.epilogue.activation_scale);
  dispatch_math("conv_forward", p.dtype, p.precision, [&](auto math) {
    using Math = decltype(math);
    using T = typename Math::Element;
    const auto* x = static_cast<const T*>(p.x);
    const auto* w = static_cast<const T*>(p.w);
    auto* y = static_cast<T*>(p.y);
    const auto* residual = p.accumulate ? y : static_cast<const T*>(p.residual);
    const int64_t k = s.kh * s.kw * s.ic;
    const int64_t x_pitch = pitch_or("conv_forward", "x", p.x_pitch, s.ic);
    const int64_t y_pitch = pitch_or("conv_forward", "y", p.y_pitch, s.oc);
    const int64_t r_pitch =
        p.accumulate ? y_pitch : pitch_or("conv_forward", "residual", p.residual_pitch, s.oc);
    const FloatEpilogue<T> epilogue{
        .y = y,
        .residual = residual,
        .bias = p.bias,
        .map = output_map(s, y_pitch),
        .packed = packs_of_eight(y, std::gcd(s.oc, y_pitch)) &&
                  (!residual || packs_of_eight(residual, std::gcd(s.oc, r_pitch))),
        .residual_pitch = static_cast<int>(r_pitch),
        .activation = p.epilogue.activation,
        .steps = {p.epilogue, residual != nullptr},
        .gain = p.gain};
    if (is_depthwise(s))
      return run_depthwise<T, T, float>("conv_forward", s, x, w, x_pitch, epilogue, stream);
    const PixelsByTaps<T> a{{x, piece_of(x, std::gcd(s.ic, x_pitch)), input_gather(s, x_pitch)}};
    const Matrix<T, true> b{w, piece_of(w, k), static_cast<int>(s.oc), static_cast<int>(k), k};
    run_product<Math>(
        a, b, epilogue,
        {a.s.pixels, static_cast<int>(s.oc), static_cast<int>(k), 0, static_cast<int>(k)}, 1,
        stream);
  });
}

}  // namespace sextant::kernels::cuda
