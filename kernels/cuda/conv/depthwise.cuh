// SPDX-License-Identifier: Apache-2.0
// Depthwise convolutions: one channel in and out of each group. There is no product of matrices in
// them: a thread sums eight neighbouring channels of a few pixels over the taps.
#pragma once

#include "kernels/cuda/conv/bias.cuh"
#include "kernels/cuda/device/each.cuh"

namespace sextant::kernels::cuda {

inline constexpr int kDepthwiseChannels = 8;  // of an item
inline constexpr int kDepthwisePixels = 4;    // of an item, neighbours in a row: they share weights

// Channels from `channel` on, of `channels`, in items of eight.
__device__ __forceinline__ int columns_from(int channel, int channels) {
  const int rest = channels - channel;
  return rest < kDepthwiseChannels ? rest : kDepthwiseChannels;
}
inline int64_t whole_items(int64_t channels) {
  return ceil_div(channels, kDepthwiseChannels) * kDepthwiseChannels;
}

struct DepthwiseShape {
  int h, width, oh, ow, channels, kh, kw, stride, pad;
  explicit DepthwiseShape(const ConvShape& s)
      : h(static_cast<int>(s.h)),
        width(static_cast<int>(s.w)),
        oh(static_cast<int>(s.oh())),
        ow(static_cast<int>(s.ow())),
        channels(static_cast<int>(s.ic)),
        kh(static_cast<int>(s.kh)),
        kw(static_cast<int>(s.kw)),
        stride(static_cast<int>(s.stride)),
        pad(static_cast<int>(s.pad)) {}
};

template <class T>
__device__ __forceinline__ auto depthwise_number(T v) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<int>(v);
  else
    return as_float(v);
}

// One tap's weights of an item's channels: w [channels, taps].
template <class Sum, class W>
__device__ __forceinline__ EightColumns<Sum> tap_weights(const W* w, int channel, int columns,
                                                         int taps, int tap) {
  EightColumns<Sum> out{};
#pragma unroll
  for (int e = 0; e < kDepthwiseChannels; ++e)
    if (e < columns) out.v[e] = depthwise_number(w[static_cast<int64_t>(channel + e) * taps + tap]);
  return out;
}

template <class T, class Sum>
__device__ __forceinline__ void add_products(EightColumns<Sum>& sum, const T* x, int columns,
                                             bool packed, const EightColumns<Sum>& weights) {
  const Eight<T> in = load_eight(x, columns, packed);
#pragma unroll
  for (int e = 0; e < kDepthwiseChannels; ++e) {
    if constexpr (std::is_integral_v<T>)
      sum.v[e] += depthwise_number(in.v[e]) * weights.v[e];
    else
      sum.v[e] = fmaf(depthwise_number(in.v[e]), weights.v[e], sum.v[e]);
  }
}

// Forward: T x W -> Sum (f32, or i32 from bytes), then the epilogue.
template <class T, class W, class Sum, class Epilogue>
struct DepthwiseOp : DepthwiseShape {
  const T* x;
  const W* w;
  Epilogue epilogue;
  int pitch;
  bool packed;
  PixelItems items;  // of groups of neighbouring pixels
  DepthwiseOp(const ConvShape& s, const T* from, const W* weights, int64_t x_pitch,
              const Epilogue& e)
      : DepthwiseShape(s),
        x(from),
        w(weights),
        epilogue(e),
        pitch(static_cast<int>(x_pitch)),
        packed(packs_of_eight(from, std::gcd(s.ic, x_pitch))),
        items(s.oh(), ceil_div(s.ow(), kDepthwisePixels), whole_items(s.ic), kDepthwiseChannels) {}
  static int64_t count(const ConvShape& s) {
    return s.n * s.oh() * ceil_div(s.ow(), kDepthwisePixels) * ceil_div(s.ic, kDepthwiseChannels);
  }

  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [image, oy, group, channel] = items.place(i);
    const int columns = columns_from(channel, channels);
    const int first = group * kDepthwisePixels;
    EightColumns<Sum> sums[kDepthwisePixels] = {};
    for (int ky = 0; ky < kh; ++ky) {
      const int iy = oy * stride - pad + ky;
      if (iy < 0 || iy >= h) continue;
      const T* row = x + (static_cast<int64_t>(image) * h + iy) * width * pitch + channel;
      for (int kx = 0; kx < kw; ++kx) {
        const auto weights = tap_weights<Sum>(w, channel, columns, kh * kw, ky * kw + kx);
#pragma unroll
        for (int p = 0; p < kDepthwisePixels; ++p) {
          const int ix = (first + p) * stride - pad + kx;
          if (first + p < ow && ix >= 0 && ix < width)
            add_products(sums[p], row + static_cast<int64_t>(ix) * pitch, columns, packed, weights);
        }
      }
    }
#pragma unroll
    for (int p = 0; p < kDepthwisePixels; ++p)
      if (first + p < ow)
        epilogue.write(0, (image * oh + oy) * ow + first + p, channel, columns, sums[p]);
  }
};

template <class T, class W, class Sum, class Epilogue>
void run_depthwise(const char* name, const ConvShape& s, const T* x, const W* w, int64_t x_pitch,
                   const Epilogue& epilogue, Stream stream) {
  using Op = DepthwiseOp<T, W, Sum, Epilogue>;
  for_each_item(name, Op(s, x, w, x_pitch, epilogue), Op::count(s), stream);
}

// The data gradient: an input pixel gathers from the outputs whose windows contain it.
template <class T>
struct DepthwiseDataOp : DepthwiseShape {
  const T* dy;
  const T* w;
  FloatEpilogue<T> epilogue;
  bool packed;
  PixelItems items;
  DepthwiseDataOp(const ConvShape& s, const T* from, const T* weights, const FloatEpilogue<T>& e)
      : DepthwiseShape(s),
        dy(from),
        w(weights),
        epilogue(e),
        packed(packs_of_eight(from, s.ic)),
        items(s.h, s.w, whole_items(s.ic), kDepthwiseChannels) {}

  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [image, iy, ix, channel] = items.place(i);
    const int columns = columns_from(channel, channels);
    EightColumns<float> sum{};
    for (int ky = 0; ky < kh; ++ky) {
      const int ty = iy + pad - ky, oy = ty / stride;
      if (ty < 0 || oy * stride != ty || oy >= oh) continue;
      for (int kx = 0; kx < kw; ++kx) {
        const int tx = ix + pad - kx, ox = tx / stride;
        if (tx < 0 || ox * stride != tx || ox >= ow) continue;
        const auto weights = tap_weights<float>(w, channel, columns, kh * kw, ky * kw + kx);
        const int64_t at = (static_cast<int64_t>(image) * oh + oy) * ow + ox;
        add_products(sum, dy + at * channels + channel, columns, packed, weights);
      }
    }
    epilogue.write(0, (image * h + iy) * width + ix, channel, columns, sum);
  }
};

// The weight gradient. A block of bias_sums_kernel's shape sums one row of taps of its channels over a
// slice of the output's pixels: partial[slice][channel][tap].
inline constexpr int kDepthwiseTaps = 8;  // summed in one walk over the pixels

template <class T>
struct DepthwiseWeights {
  const T* x;
  const T* dy;
  float* partial;
  int64_t pixels, pixels_in_slice;
  DepthwiseShape shape;
  Divider<uint32_t> plane, row;  // of the output
};

template <class T>
__global__ void __launch_bounds__(kBiasChannels* kBiasLanes)
    depthwise_weight_kernel(DepthwiseWeights<T> p) {
  const DepthwiseShape& s = p.shape;
  SEXTANT_SHARED(float[kBiasLanes][kBiasChannels], lanes);
  const int channel = static_cast<int>(blockIdx.x * kBiasChannels + threadIdx.x);
  const int ky = static_cast<int>(blockIdx.z);
  const int64_t begin = blockIdx.y * p.pixels_in_slice;
  const int64_t end = begin + p.pixels_in_slice < p.pixels ? begin + p.pixels_in_slice : p.pixels;
  for (int first = 0; first < s.kw; first += kDepthwiseTaps) {
    float sums[kDepthwiseTaps] = {};
    if (channel < s.channels)
      for (int64_t i = begin + threadIdx.y; i < end; i += kBiasLanes) {
        const auto u = static_cast<uint32_t>(i);
        const uint32_t image = p.plane.quotient(u);
        const uint32_t within = u - image * p.plane.divisor;
        const uint32_t oy = p.row.quotient(within);
        const uint32_t ox = within - oy * p.row.divisor;
        const int iy = static_cast<int>(oy) * s.stride - s.pad + ky;
        if (iy < 0 || iy >= s.h) continue;
        const int left = static_cast<int>(ox) * s.stride - s.pad + first;
        const float up = as_float(p.dy[i * s.channels + channel]);
        const T* line = p.x + (static_cast<int64_t>(image) * s.h + iy) * s.width * s.channels;
#pragma unroll
        for (int k = 0; k < kDepthwiseTaps; ++k)
          if (first + k < s.kw && left + k >= 0 && left + k < s.width)
            sums[k] = fmaf(as_float(line[static_cast<int64_t>(left + k) * s.channels + channel]),
                           up, sums[k]);
      }
    for (int k = 0; k < kDepthwiseTaps && first + k < s.kw; ++k) {
      lanes[threadIdx.y][threadIdx.x] = sums[k];
      __syncthreads();
      if (threadIdx.y == 0 && channel < s.channels) {
        float sum = sums[k];
        for (int lane = 1; lane < kBiasLanes; ++lane) sum += lanes[lane][threadIdx.x];
        const int64_t taps = s.kh * s.kw;
        p.partial[(static_cast<int64_t>(blockIdx.y) * s.channels + channel) * taps + ky * s.kw +
                  first + k] = sum;
      }
      __syncthreads();
    }
  }
}

inline Slices depthwise_slices(const ConvShape& s) {
  return slices_of(s.n * s.oh() * s.ow(), ceil_div(s.oc, kBiasChannels) * s.kh);
}

template <class T>
void depthwise_weight_gradient(const ConvBackwardWeight& p, float* partial, Stream stream) {
  const ConvShape& s = p.shape;
  const Slices slices = depthwise_slices(s);
  const DepthwiseWeights<T> form{.x = static_cast<const T*>(p.x),
                                 .dy = static_cast<const T*>(p.dy),
                                 .partial = slices.count > 1 ? partial : p.dw,
                                 .pixels = s.n * s.oh() * s.ow(),
                                 .pixels_in_slice = slices.pixels,
                                 .shape = DepthwiseShape(s),
                                 .plane = Divider<uint32_t>(s.oh() * s.ow()),
                                 .row = Divider<uint32_t>(s.ow())};
  launch(SEXTANT_KERNEL(depthwise_weight_kernel<T>),
         dim3(static_cast<unsigned>(ceil_div(s.ic, kBiasChannels)),
              static_cast<unsigned>(slices.count), static_cast<unsigned>(s.kh)),
         dim3(kBiasChannels, kBiasLanes), 0, stream, form);
  if (slices.count > 1) sum_slices(partial, p.dw, s.w_numel(), slices.count, stream);
}

}  // namespace sextant::kernels::cuda
