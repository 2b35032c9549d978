// SPDX-License-Identifier: Apache-2.0
// Pooling, up-sampling, channel copies. Bound by memory: an item is a pixel's neighbouring
// channels, 16 bytes of them, or one where the channels are not a multiple of that. Nothing is
// scattered: backward, an input pixel adds up the windows that contain it, in the order in which
// the CPU adds them.
#include <numeric>

#include "kernels/cuda/device/each.cuh"
#include "kernels/pool.h"

namespace sextant::kernels::cuda {
namespace {

// Runs Op<T, kPackOf<T>> where `channels` (a divisor of every channel count, pitch and offset) and
// alignment allow, or Op<T, 1>, over items of `elements` in all.
template <template <class, int> class Op, class T, class P>
void run_as(const char* name, const P& p, int64_t elements, int64_t channels, bool aligned,
            Stream stream) {
  constexpr int kWidth = kPackOf<T>;
  if (elements <= 0) return;
  if (aligned && channels % kWidth == 0)
    for_each_item(name, Op<T, kWidth>(p), elements / kWidth, stream);
  else
    for_each_item(name, Op<T, 1>(p), elements, stream);
}

template <template <class, int> class Op, class P>
void run(const char* name, const P& p, int64_t elements, bool aligned, Stream stream) {
  dispatch_float(name, p.dtype, [&](auto type) {
    run_as<Op, decltype(type)>(name, p, elements, p.c, aligned, stream);
  });
}

__device__ __forceinline__ int at_least(int a, int low) { return a > low ? a : low; }
__device__ __forceinline__ int at_most(int a, int high) { return a < high ? a : high; }

template <class T, int kWidth>
struct MaxPoolOp {
  const T* x;
  T* y;
  int32_t* index;
  int h, w, c, kernel, stride, pad;
  PixelItems items;
  explicit MaxPoolOp(const MaxPoolForward& p)
      : x(static_cast<const T*>(p.x)),
        y(static_cast<T*>(p.y)),
        index(p.index),
        h(static_cast<int>(p.h)),
        w(static_cast<int>(p.w)),
        c(static_cast<int>(p.c)),
        kernel(static_cast<int>(p.kernel)),
        stride(static_cast<int>(p.stride)),
        pad(static_cast<int>(p.pad)),
        items(p.oh(), p.ow(), p.c, kWidth) {}
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [image, oy, ox, channel] = items.place(i);
    const int y0 = at_least(oy * stride - pad, 0), y1 = at_most(oy * stride - pad + kernel, h);
    const int x0 = at_least(ox * stride - pad, 0), x1 = at_most(ox * stride - pad + kernel, w);
    const T* in = x + static_cast<int64_t>(image) * h * w * c + channel;
    Pack<kWidth> best = load<kWidth>(in + static_cast<int64_t>(y0 * w + x0) * c);
    Stored<int32_t, kWidth> winner;
#pragma unroll
    for (int v = 0; v < kWidth; ++v) winner.v[v] = y0 * w + x0;
    for (int py = y0; py < y1; ++py)
      for (int px = x0; px < x1; ++px) {
        const int at = py * w + px;
        const Pack<kWidth> value = load<kWidth>(in + static_cast<int64_t>(at) * c);
#pragma unroll
        for (int v = 0; v < kWidth; ++v)
          if (value.v[v] > best.v[v]) {
            best.v[v] = value.v[v];
            winner.v[v] = at;
          }
      }
    const int64_t out = static_cast<int64_t>(i) * kWidth;
    store<kWidth>(y + out, best);
    if (index != nullptr) *reinterpret_cast<Stored<int32_t, kWidth>*>(index + out) = winner;
  }
};

template <class T, int kWidth>
struct MaxPoolGradientOp {
  const T* dy;
  const int32_t* index;
  T* dx;
  int w, c, oh, ow, kernel, stride, pad;
  bool accumulate;
  PixelItems items;
  explicit MaxPoolGradientOp(const MaxPoolBackward& p)
      : dy(static_cast<const T*>(p.dy)),
        index(p.index),
        dx(static_cast<T*>(p.dx)),
        w(static_cast<int>(p.w)),
        c(static_cast<int>(p.c)),
        oh(static_cast<int>(p.oh)),
        ow(static_cast<int>(p.ow)),
        kernel(static_cast<int>(p.kernel)),
        stride(static_cast<int>(p.stride)),
        pad(static_cast<int>(p.pad)),
        accumulate(p.accumulate),
        items(p.h, p.w, p.c, kWidth) {}
  // The windows that contain position `at`: [first, last).
  __device__ __forceinline__ void windows(int at, int count, int& first, int& last) const {
    const int begin = at + pad - kernel + stride;  // times stride, rounded down: the first
    first = begin > 0 ? begin / stride : 0;
    last = at_most((at + pad) / stride + 1, count);
  }
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [image, y, x, channel] = items.place(i);
    int y0 = 0, y1 = 0, x0 = 0, x1 = 0;
    windows(y, oh, y0, y1);
    windows(x, ow, x0, x1);
    const int64_t base = static_cast<int64_t>(image) * oh * ow * c + channel;
    Pack<kWidth> sum{};
    if (accumulate) sum = load<kWidth>(dx + static_cast<int64_t>(i) * kWidth);
    for (int oy = y0; oy < y1; ++oy)
      for (int ox = x0; ox < x1; ++ox) {
        const int64_t at = base + static_cast<int64_t>(oy * ow + ox) * c;
        const auto winner = *reinterpret_cast<const Stored<int32_t, kWidth>*>(index + at);
        const Pack<kWidth> up = load<kWidth>(dy + at);
#pragma unroll
        for (int v = 0; v < kWidth; ++v)
          if (winner.v[v] == y * w + x) sum.v[v] += up.v[v];
      }
    store<kWidth>(dx + static_cast<int64_t>(i) * kWidth, sum);
  }
};

template <class T, int kWidth>
struct AveragePoolOp {
  const T* x;
  T* y;
  int h, w, c, half;
  float factor;
  PixelItems items;
  explicit AveragePoolOp(const AveragePool& p)
      : x(static_cast<const T*>(p.x)),
        y(static_cast<T*>(p.y)),
        h(static_cast<int>(p.h)),
        w(static_cast<int>(p.w)),
        c(static_cast<int>(p.c)),
        half(static_cast<int>(p.kernel / 2)),
        factor(1.0f / static_cast<float>(p.kernel * p.kernel)),
        items(p.h, p.w, p.c, kWidth) {}
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [image, oy, ox, channel] = items.place(i);
    const T* in = x + static_cast<int64_t>(image) * h * w * c + channel;
    Pack<kWidth> sum{};
    for (int px = at_least(ox - half, 0); px < at_most(ox + half + 1, w); ++px) {
      Pack<kWidth> column{};
      for (int py = at_least(oy - half, 0); py < at_most(oy + half + 1, h); ++py) {
        const Pack<kWidth> value = load<kWidth>(in + static_cast<int64_t>(py * w + px) * c);
#pragma unroll
        for (int v = 0; v < kWidth; ++v) column.v[v] += value.v[v];
      }
#pragma unroll
      for (int v = 0; v < kWidth; ++v) sum.v[v] += column.v[v];
    }
#pragma unroll
    for (int v = 0; v < kWidth; ++v) sum.v[v] *= factor;
    store<kWidth>(y + static_cast<int64_t>(i) * kWidth, sum);
  }
};

template <class T, int kWidth>
struct UpsampleOp {
  const T* from;
  T* to;
  int h, w, c;
  Divider<uint32_t> scale;
  PixelItems items;
  explicit UpsampleOp(const Upsample& p)
      : from(static_cast<const T*>(p.from)),
        to(static_cast<T*>(p.to)),
        h(static_cast<int>(p.h)),
        w(static_cast<int>(p.w)),
        c(static_cast<int>(p.c)),
        scale(p.scale),
        items(p.h * p.scale, p.w * p.scale, p.c, kWidth) {}
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [image, oy, ox, channel] = items.place(i);
    const auto y = static_cast<int64_t>(scale.quotient(static_cast<uint32_t>(oy)));
    const auto x = static_cast<int64_t>(scale.quotient(static_cast<uint32_t>(ox)));
    store<kWidth>(to + static_cast<int64_t>(i) * kWidth,
                  load<kWidth>(from + ((image * h + y) * w + x) * c + channel));
  }
};

template <class T, int kWidth>
struct UpsampleGradientOp {
  const T* from;
  T* to;
  int h, w, c, scale;
  PixelItems items;
  explicit UpsampleGradientOp(const Upsample& p)
      : from(static_cast<const T*>(p.from)),
        to(static_cast<T*>(p.to)),
        h(static_cast<int>(p.h)),
        w(static_cast<int>(p.w)),
        c(static_cast<int>(p.c)),
        scale(static_cast<int>(p.scale)),
        items(p.h, p.w, p.c, kWidth) {}
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [image, y, x, channel] = items.place(i);
    Pack<kWidth> sum{};
    for (int a = 0; a < scale; ++a) {
      const int64_t row = (static_cast<int64_t>(image) * h + y) * scale + a;
      for (int b = 0; b < scale; ++b) {
        const Pack<kWidth> value = load<kWidth>(from + ((row * w + x) * scale + b) * c + channel);
#pragma unroll
        for (int v = 0; v < kWidth; ++v) sum.v[v] += value.v[v];
      }
    }
    store<kWidth>(to + static_cast<int64_t>(i) * kWidth, sum);
  }
};

template <class T, int kWidth>
struct CopyOp {
  const T* from;
  T* to;
  int64_t from_pitch, to_pitch;
  Divider<uint32_t> pieces;
  explicit CopyOp(const CopyChannels& p)
      : from(static_cast<const T*>(p.from) + p.from_offset),
        to(static_cast<T*>(p.to) + p.to_offset),
        from_pitch(p.from_pitch),
        to_pitch(p.to_pitch),
        pieces(p.channels / kWidth) {}
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const uint32_t row = pieces.quotient(i);
    const int64_t channel = static_cast<int64_t>(i - row * pieces.divisor) * kWidth;
    using Piece = Stored<T, kWidth>;
    *reinterpret_cast<Piece*>(to + row * to_pitch + channel) =
        *reinterpret_cast<const Piece*>(from + row * from_pitch + channel);
  }
};

template <int kWidth>
struct BytesOp {
  const uint8_t* x;
  float* y;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const int64_t at = static_cast<int64_t>(i) * kWidth;
    const auto bytes = *reinterpret_cast<const Stored<uint8_t, kWidth>*>(x + at);
    Pack<kWidth> out;
#pragma unroll
    for (int v = 0; v < kWidth; ++v) out.v[v] = static_cast<float>(bytes.v[v]) / 255.0f;
    store<kWidth>(y + at, out);
  }
};

}  // namespace

void max_pool_forward(const MaxPoolForward& p, void*, Stream stream) {
  check(p.kernel >= 1 && p.stride >= 1 && p.pad >= 0 && 2 * p.pad <= p.kernel,
        "max_pool_forward: kernel {}, stride {}, padding {}", p.kernel, p.stride, p.pad);
  check(p.h * p.w < (int64_t{1} << 31), "max_pool_forward: {} x {} pixels, at most 2^31", p.h, p.w);
  run<MaxPoolOp>("max_pool_forward", p, p.n * p.oh() * p.ow() * p.c,
                 aligned_to_pack({p.x, p.y, p.index}), stream);
}

void max_pool_backward(const MaxPoolBackward& p, void*, Stream stream) {
  check(p.kernel >= 1 && p.stride >= 1 && p.pad >= 0,
        "max_pool_backward: kernel {}, stride {}, padding {}", p.kernel, p.stride, p.pad);
  run<MaxPoolGradientOp>("max_pool_backward", p, p.n * p.h * p.w * p.c,
                         aligned_to_pack({p.dy, p.index, p.dx}), stream);
}

void average_pool(const AveragePool& p, void*, Stream stream) {
  check(p.kernel >= 1 && p.kernel % 2 == 1, "average_pool: kernel {}, must be odd", p.kernel);
  run<AveragePoolOp>("average_pool", p, p.n * p.h * p.w * p.c, aligned_to_pack({p.x, p.y}), stream);
}

void upsample_forward(const Upsample& p, void*, Stream stream) {
  check(p.scale >= 1, "upsample_forward: scale {}", p.scale);
  run<UpsampleOp>("upsample_forward", p, p.n * p.h * p.w * p.c * p.scale * p.scale,
                  aligned_to_pack({p.from, p.to}), stream);
}

void upsample_backward(const Upsample& p, void*, Stream stream) {
  check(p.scale >= 1, "upsample_backward: scale {}", p.scale);
  run<UpsampleGradientOp>("upsample_backward", p, p.n * p.h * p.w * p.c,
                          aligned_to_pack({p.from, p.to}), stream);
}

void copy_channels(const CopyChannels& p, void*, Stream stream) {
  if (p.rows * p.channels <= 0) return;
  const int64_t size = size_of(p.dtype);
  const bool aligned =
      aligned_to_pack({static_cast<const std::byte*>(p.from) + p.from_offset * size,
                       static_cast<const std::byte*>(p.to) + p.to_offset * size});
  const int64_t channels = std::gcd(std::gcd(p.channels, p.from_pitch), p.to_pitch);
  const auto as = [&](auto type) {
    run_as<CopyOp, decltype(type)>("copy_channels", p, p.rows * p.channels, channels, aligned,
                                   stream);
  };
  if (size == 1) return as(uint8_t{});
  if (size == 2) return as(uint16_t{});
  if (size == 4) return as(uint32_t{});
  as(uint64_t{});
}

void bytes_to_float(const BytesToFloat& p, void*, Stream stream) {
  const bool packed = reinterpret_cast<uintptr_t>(p.x) % kPackWidth == 0 && aligned_to_pack({p.y});
  const int64_t whole = packed ? p.n / kPackWidth * kPackWidth : 0;
  for_each_item("bytes_to_float", BytesOp<kPackWidth>{p.x, p.y}, whole / kPackWidth, stream);
  for_each_item("bytes_to_float", BytesOp<1>{p.x + whole, p.y + whole}, p.n - whole, stream);
}

}  // namespace sextant::kernels::cuda
