// SPDX-License-Identifier: Apache-2.0
// The weight gradient as a matrix product: output channels x (tap, input channel), summed over the
// output's pixels. There are few tiles and many pixels, so the pixels are divided into slices; the
// slices' sums go to the workspace and a second kernel adds them in order.
#include "kernels/cuda/conv/depthwise.cuh"

namespace sextant::kernels::cuda {
namespace {

int64_t pixels_of(const ConvShape& s) { return s.n * s.oh() * s.ow(); }
Slices weight_slices(const ConvShape& s) {
  return slices_of(pixels_of(s), ceil_div(s.oc, 64) * ceil_div(s.kh * s.kw * s.ic, 64));
}

template <class Math>
void weight_gradient(const ConvBackwardWeight& p, float* partial, Stream stream) {
  using T = typename Math::Element;
  const ConvShape& s = p.shape;
  const auto* x = static_cast<const T*>(p.x);
  const auto* dy = static_cast<const T*>(p.dy);
  const Slices slices = weight_slices(s);
  const int pixels = static_cast<int>(pixels_of(s)), channels = static_cast<int>(s.oc);
  const int columns = static_cast<int>(s.kh * s.kw * s.ic);
  const Matrix<T, false> a{dy, piece_of(dy, s.oc), channels, pixels, s.oc};
  const TapsByPixels<T> b{{x, piece_of(x, s.ic), input_gather(s, s.ic)}};
  float* out = slices.count > 1 ? partial : p.dw;
  const PartialEpilogue epilogue{out, s.w_numel(), columns, packs_of_eight(out, columns)};
  run_product<Math>(a, b, epilogue, {channels, columns, pixels, 0, static_cast<int>(slices.pixels)},
                    static_cast<int>(slices.count), stream);
  if (slices.count > 1) sum_slices(partial, p.dw, s.w_numel(), slices.count, stream);
}

}  // namespace

int64_t workspace_bytes(const ConvBackwardWeight& p) {
  const ConvShape& s = p.shape;
  check_conv_shape("conv_backward_weight", s);
  const Slices slices = is_depthwise(s) ? depthwise_slices(s) : weight_slices(s);
  // The two follow each other in the stream, so they share it.
  return std::max(slices.floats(s.w_numel()) * static_cast<int64_t>(sizeof(float)),
                  bias_gradient_workspace(pixels_of(s), s.oc));
}

void conv_backward_weight(const ConvBackwardWeight& p, void* workspace, Stream stream) {
  check_conv_shape("conv_backward_weight", p.shape);
  dispatch_math("conv_backward_weight", p.dtype, p.precision, [&](auto math) {
    using Math = decltype(math);
    auto* partial = static_cast<float*>(workspace);
    using T = typename Math::Element;
    if (is_depthwise(p.shape))
      depthwise_weight_gradient<T>(p, partial, stream);
    else
      weight_gradient<Math>(p, partial, stream);
    if (p.db)
      bias_gradient(static_cast<const T*>(p.dy), pixels_of(p.shape), p.shape.oc, p.db, partial,
                    stream);
  });
}

}  // namespace sextant::kernels::cuda
