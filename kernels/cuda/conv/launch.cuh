// SPDX-License-Identifier: Apache-2.0
// Which tile a convolution's matrix product runs with, and its launch.
#pragma once

#include <limits>
#include <numeric>

#include "kernels/conv.h"
#include "kernels/cuda/conv/epilogue.cuh"
#include "kernels/cuda/conv/sources.cuh"

namespace sextant::kernels::cuda {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A tile's multiprocessor time, in any unit: its area over the share of the peak that it is
// expected to reach (smaller tiles read more shared memory per product).
struct TileCost {
  int m, n;
  double efficiency;
  double of(int64_t rows, int64_t columns, int slices) const {
    const int64_t blocks = ceil_div(rows, m) * ceil_div(columns, n) * slices;
    return static_cast<double>(ceil_div(blocks, multiprocessors()) * m * n) / efficiency;
  }
};

template <class Math, class Tile, bool kVector, class SourceA, class SourceB, class Epilogue>
void launch_product(const SourceA& a, const SourceB& b, const Epilogue& epilogue, ProductSize size,
                    int slices, Stream stream) {
  size.column_tiles = static_cast<int>(ceil_div(size.n, Tile::kN));
  const int64_t blocks = ceil_div(size.m, Tile::kM) * size.column_tiles;
  check(blocks <= std::numeric_limits<int>::max(), "convolution: {} tiles, at most 2^31 - 1",
        blocks);
  launch(SEXTANT_KERNEL(product_kernel<Math, Tile, SourceA, SourceB, Epilogue, kVector>),
         dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(slices)),
         dim3(static_cast<unsigned>(Tile::kThreads)), Tile::kSharedBytes, stream, a, b, epilogue,
         size);
}

// Runs the product over `slices` slices of k (gridDim.y). All tile shapes give the same bits.
template <class Math, class SourceA, class SourceB, class Epilogue>
void run_product(const SourceA& a, const SourceB& b, const Epilogue& epilogue,
                 const ProductSize& size, int slices, Stream stream) {
  using Small = TileShape<64, 64, 32, 32, 3>;
  if (a.piece != 16 || b.piece != 16)
    return launch_product<Math, Small, false>(a, b, epilogue, size, slices, stream);
  // f32 fragments take more registers than 128 x 128 sums leave.
  constexpr bool kHalf = sizeof(typename Math::Element) < 4;
  const TileCost costs[] = {{64, 64, 0.75}, {128, 64, 0.9}, {128, 32, 0.65}, {128, 128, 1.0}};
  const int candidates = kHalf ? 4 : 3;
  int best = 0;
  for (int i = 1; i < candidates; ++i)
    if (costs[i].of(size.m, size.n, slices) < costs[best].of(size.m, size.n, slices)) best = i;
  if (best == 2)
    return launch_product<Math, TileShape<128, 32, 32, 32, 3>, true>(a, b, epilogue, size, slices,
                                                                     stream);
  if constexpr (kHalf) {
    if (best == 3)
      return launch_product<Math, TileShape<128, 128, 64, 32, 2>, true>(a, b, epilogue, size,
                                                                        slices, stream);
  }
  if (best == 1)
    return launch_product<Math, TileShape<128, 64, 64, 32, 2>, true>(a, b, epilogue, size, slices,
                                                                     stream);
  launch_product<Math, Small, true>(a, b, epilogue, size, slices, stream);
}

// Calls f(Math{}) for the type and precision.
template <class F>
void dispatch_math(const char* name, DType dtype, ConvPrecision precision, F&& f) {
  if (dtype == DType::kF16) return f(F16Math{});
  if (dtype == DType::kBF16) return f(BF16Math{});
  check(dtype == DType::kF32, "{}: dtype {}, must be F32, F16 or BF16", name, name_of(dtype));
  if (precision == ConvPrecision::k3xTF32) return f(TF32x3Math{});
  f(FmaMath{});
}

// Throws Error for parameters that the kernels do not support.
inline void check_conv_shape(const char* name, const ConvShape& s) {
  check(s.groups == 1 || is_depthwise(s),
        "{}: {} groups for {} channels to {}, must be 1, or as many as both (depthwise)", name,
        s.groups, s.ic, s.oc);
  check(s.n >= 1 && s.h >= 1 && s.w >= 1 && s.ic >= 1 && s.oc >= 1 && s.kh >= 1 && s.kw >= 1 &&
            s.stride >= 1 && s.pad >= 0 && s.oh() >= 1 && s.ow() >= 1,
        "{}: input [{},{},{},{}], weight [{},{},{},{}], stride {}, padding {}: no output", name,
        s.n, s.h, s.w, s.ic, s.oc, s.kh, s.kw, s.ic, s.stride, s.pad);
  // 32-bit indices of pixels and of k, tiles and prefetching included.
  constexpr int64_t kMost = int64_t{1} << 30;
  check(s.n * s.h * s.w <= kMost && s.n * s.oh() * s.ow() <= kMost &&
            s.kh * s.kw * std::max(s.ic, s.oc) <= kMost && s.h + s.pad < kOutside / 2 &&
            s.w + s.pad < kOutside / 2,
        "{}: input [{},{},{},{}], weight [{},{},{},{}]: more than 2^30 pixels or weights a channel",
        name, s.n, s.h, s.w, s.ic, s.oc, s.kh, s.kw, s.ic);
}

// `pitch` elements from one pixel to the next, 0 for none but the channels.
inline int64_t pitch_or(const char* name, const char* tensor, int64_t pitch, int64_t channels) {
  check(pitch == 0 || (pitch >= channels && pitch <= std::numeric_limits<int>::max()),
        "{}: pitch {} of {}, which has {} channels", name, pitch, tensor, channels);
  return pitch == 0 ? channels : pitch;
}

// The input of a convolution through the grid of its output.
inline GatherShape input_gather(const ConvShape& s, int64_t pitch) {
  return {.height = static_cast<int>(s.h),
          .width = static_cast<int>(s.w),
          .pitch = static_cast<int>(pitch),
          .pixels = static_cast<int>(s.n * s.oh() * s.ow()),
          .taps = static_cast<int>(s.kh * s.kw * s.ic),
          .stride = static_cast<int>(s.stride),
          .first_y = static_cast<int>(-s.pad),
          .first_x = static_cast<int>(-s.pad),
          .tap_step = 1,
          .plane = Divider<uint32_t>(s.oh() * s.ow()),
          .row = Divider<uint32_t>(s.ow()),
          .tap_row = Divider<uint32_t>(s.kw * s.ic),
          .tap_column = Divider<uint32_t>(s.ic)};
}
inline PixelMap output_map(const ConvShape& s, int64_t pitch) {
  return {.plane = Divider<uint32_t>(s.oh() * s.ow()),
          .row = Divider<uint32_t>(s.ow()),
          .height = static_cast<int>(s.oh()),
          .width = static_cast<int>(s.ow()),
          .pitch = static_cast<int>(pitch),
          .step = 1,
          .first_y = 0,
          .first_x = 0};
}

}  // namespace sextant::kernels::cuda
