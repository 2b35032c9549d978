// SPDX-License-Identifier: Apache-2.0
// The data gradient as gathering matrix products: input pixels x input channels, summed over taps
// and output channels. With a stride, the input pixels fall into stride^2 phases by their
// coordinates modulo it; a phase uses only every stride-th tap, so each phase is a separate product
// over these taps, and no term that is zero by construction is computed.
#include "kernels/cuda/conv/depthwise.cuh"

namespace sextant::kernels::cuda {
namespace {

// One axis of a phase: the input positions first + stride * j, j < count.
struct PhaseAxis {
  int64_t first, count;
  int64_t first_tap, taps;  // first_tap + stride * u, u < taps
  int64_t output;           // output position of j = 0, u = 0; in general output + j - u
};
PhaseAxis phase_axis(int64_t phase, int64_t size, int64_t kernel, int64_t stride, int64_t pad) {
  PhaseAxis a{};
  a.first = phase;
  a.count = phase < size ? ceil_div(size - phase, stride) : 0;
  a.first_tap = (phase + pad) % stride;
  a.taps = a.first_tap < kernel ? ceil_div(kernel - a.first_tap, stride) : 0;
  a.output = (phase + pad - a.first_tap) / stride;
  return a;
}

template <class Math>
void run_phase(const ConvBackwardData& p, const PhaseAxis& y, const PhaseAxis& x, Stream stream) {
  using T = typename Math::Element;
  const ConvShape& s = p.shape;
  const auto* dy = static_cast<const T*>(p.dy);
  const auto* w = static_cast<const T*>(p.w);
  auto* dx = static_cast<T*>(p.dx);
  const int64_t k = y.taps * x.taps * s.oc;
  const int64_t columns = std::max<int64_t>(x.taps, 1);  // a divisor, so at least 1
  const PixelsByTaps<T> a{{dy,
                           piece_of(dy, s.oc),
                           {.height = static_cast<int>(s.oh()),
                            .width = static_cast<int>(s.ow()),
                            .pitch = static_cast<int>(s.oc),
                            .pixels = static_cast<int>(s.n * y.count * x.count),
                            .taps = static_cast<int>(k),
                            .stride = 1,
                            .first_y = static_cast<int>(y.output),
                            .first_x = static_cast<int>(x.output),
                            .tap_step = -1,
                            .plane = Divider<uint32_t>(y.count * x.count),
                            .row = Divider<uint32_t>(x.count),
                            .tap_row = Divider<uint32_t>(columns * s.oc),
                            .tap_column = Divider<uint32_t>(s.oc)}}};
  const PhaseWeights<T> b{.base = w,
                          .piece = piece_of(w, s.ic),
                          .extent_i = static_cast<int>(s.ic),
                          .extent_k = static_cast<int>(k),
                          .first_tap = static_cast<int>(y.first_tap * s.kw + x.first_tap),
                          .row_step = static_cast<int>(s.stride * s.kw),
                          .column_step = static_cast<int>(s.stride),
                          .tap_pitch = s.ic,
                          .channel_pitch = s.kh * s.kw * s.ic,
                          .tap = Divider<uint32_t>(s.oc),
                          .tap_row = Divider<uint32_t>(columns)};
  const FloatEpilogue<T> epilogue{.y = dx,
                                  .residual = p.accumulate ? dx : nullptr,
                                  .bias = p.bias,
                                  .map = {.plane = a.s.plane,
                                          .row = a.s.row,
                                          .height = static_cast<int>(s.h),
                                          .width = static_cast<int>(s.w),
                                          .pitch = static_cast<int>(s.ic),
                                          .step = static_cast<int>(s.stride),
                                          .first_y = static_cast<int>(y.first),
                                          .first_x = static_cast<int>(x.first)},
                                  .packed = packs_of_eight(dx, s.ic),
                                  .residual_pitch = static_cast<int>(s.ic),
                                  .steps = {Epilogue{}, p.accumulate}};
  const int all = static_cast<int>(std::max<int64_t>(k, 1));
  run_product<Math>(a, b, epilogue,
                    {a.s.pixels, static_cast<int>(s.ic), static_cast<int>(k), 0, all}, 1, stream);
}

template <class T>
void run_depthwise_data(const ConvBackwardData& p, Stream stream) {
  const ConvShape& s = p.shape;
  auto* dx = static_cast<T*>(p.dx);
  const FloatEpilogue<T> epilogue{.y = dx,
                                  .residual = p.accumulate ? dx : nullptr,
                                  .bias = p.bias,
                                  .map = {.plane = Divider<uint32_t>(s.h * s.w),
                                          .row = Divider<uint32_t>(s.w),
                                          .height = static_cast<int>(s.h),
                                          .width = static_cast<int>(s.w),
                                          .pitch = static_cast<int>(s.ic),
                                          .step = 1,
                                          .first_y = 0,
                                          .first_x = 0},
                                  .packed = packs_of_eight(dx, s.ic),
                                  .residual_pitch = static_cast<int>(s.ic),
                                  .steps = {Epilogue{}, p.accumulate}};
  const DepthwiseDataOp<T> op(s, static_cast<const T*>(p.dy), static_cast<const T*>(p.w), epilogue);
  for_each_item("conv_backward_data", op, s.n * s.h * s.w * ceil_div(s.ic, kDepthwiseChannels),
                stream);
}

}  // namespace

void conv_backward_data(const ConvBackwardData& p, void*, Stream stream) {
  const ConvShape& s = p.shape;
  check_conv_shape("conv_backward_data", s);
  dispatch_math("conv_backward_data", p.dtype, p.precision, [&](auto math) {
    if (is_depthwise(s)) return run_depthwise_data<typename decltype(math)::Element>(p, stream);
    for (int64_t py = 0; py < s.stride; ++py)
      for (int64_t px = 0; px < s.stride; ++px) {
        const PhaseAxis y = phase_axis(py, s.h, s.kh, s.stride, s.pad);
        const PhaseAxis x = phase_axis(px, s.w, s.kw, s.stride, s.pad);
        const bool nothing_to_add = p.accumulate && !p.bias && y.taps * x.taps == 0;
        if (y.count * x.count > 0 && !nothing_to_add) run_phase<decltype(math)>(p, y, x, stream);
      }
  });
}

}  // namespace sextant::kernels::cuda
