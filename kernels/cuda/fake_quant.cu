// SPDX-License-Identifier: Apache-2.0
// Fake quantization. Bound by memory; what costs besides is finding an element's channel, so the
// index arithmetic is 32-bit with a precomputed multiplier wherever the tensor allows.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/fake_quant.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr float kZeroAmax = 1.0f / (1 << 24);  // at or below: all zeros

// An operation prepares what depends on the channel only, then is applied to its elements.
struct QuantizeOp {
  const float* x;
  float* y;
  float low;
  float high;  // the bound
  struct Prepared {
    float scale;
    float back;
  };
  __device__ __forceinline__ Prepared prepare(float amax) const {
    const float scale = amax <= kZeroAmax ? 0.0f : high / amax;
    return {scale, scale == 0.0f ? 1.0f : scale};
  }
  // The way back is a division, as in the reference: a product with amax / high would differ in the
  // last bit.
  __device__ __forceinline__ float operator()(const Prepared& c, float value, float) const {
    float q = rintf(value * c.scale);
    q = q < low ? low : (q > high ? high : q);  // NaN stays NaN
    return q / c.back;
  }
};

struct GradientOp {
  const float* x;
  const float* dy;
  float* y;
  bool is_unsigned;
  struct Prepared {
    float low;
    float high;
  };
  __device__ __forceinline__ Prepared prepare(float amax) const {
    return {is_unsigned ? 0.0f : -amax, amax};
  }
  __device__ __forceinline__ float operator()(const Prepared& c, float value, float dy_) const {
    return value >= c.low && value <= c.high ? dy_ : 0.0f;
  }
};

// How the elements of one pack meet their channels.
enum class Channels {
  kOne,
  kRuns,
  kLast
};  // a single channel; one channel for each pack; inner = 1

// The channel of the element at `i`: (i / inner) % channels.
template <class Index>
struct ChannelIndex {
  Divider<Index> inner;
  Divider<Index> channels;
};

template <class Op, int kWidth, Channels kChannels, class Index>
struct Worker {
  const Op& op;
  const float* amax;
  const ChannelIndex<Index>& channel;
  typename Op::Prepared whole;  // kOne

  __device__ __forceinline__ void pack_at(Index i) const {
    const Pack<kWidth> x = load<kWidth>(op.x + i);
    Pack<kWidth> dy{};
    if constexpr (requires { op.dy; }) dy = load<kWidth>(op.dy + i);
    Pack<kWidth> out;
    if constexpr (kChannels == Channels::kLast) {
      const float* a = amax + channel.channels.remainder(i);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) out.v[v] = op(op.prepare(a[v]), x.v[v], dy.v[v]);
    } else {
      typename Op::Prepared c = whole;
      if constexpr (kChannels == Channels::kRuns)
        c = op.prepare(amax[channel.channels.remainder(channel.inner.quotient(i))]);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) out.v[v] = op(c, x.v[v], dy.v[v]);
    }
    store<kWidth>(op.y + i, out);
  }
};

// n elements, of which the n % kWidth last are done one by one (kOne; the others have none).
template <class Op, int kWidth, Channels kChannels, class Index>
__global__ void __launch_bounds__(kThreads)
    fake_quant_kernel(Op op, const float* amax, ChannelIndex<Index> channel, int64_t n) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t packs = n / kWidth;
  const typename Op::Prepared whole = op.prepare(amax[0]);
  const Worker<Op, kWidth, kChannels, Index> worker{op, amax, channel, whole};
  for (int64_t i = first; i < packs; i += threads) worker.pack_at(static_cast<Index>(i * kWidth));
  const int64_t tail = packs * kWidth + first;
  if (tail < n)
    Worker<Op, 1, kChannels, Index>{op, amax, channel, whole}.pack_at(static_cast<Index>(tail));
}

struct Extent {
  int64_t outer;
  int64_t channels;
  int64_t inner;
  int64_t count() const { return outer * channels * inner; }
};

template <class Op, int kWidth, Channels kChannels>
void start(const Op& op, const float* amax, const Extent& e, Stream stream) {
  const int64_t n = e.count();
  const unsigned blocks = grid_stride_blocks((n + kWidth - 1) / kWidth, kThreads);
  if (n < (int64_t{1} << 31)) {
    const ChannelIndex<uint32_t> channel{Divider<uint32_t>(e.inner), Divider<uint32_t>(e.channels)};
    launch(SEXTANT_KERNEL(fake_quant_kernel<Op, kWidth, kChannels, uint32_t>), blocks, kThreads, 0,
           stream, op, amax, channel, n);
  } else {
    const ChannelIndex<int64_t> channel{Divider<int64_t>(e.inner), Divider<int64_t>(e.channels)};
    launch(SEXTANT_KERNEL(fake_quant_kernel<Op, kWidth, kChannels, int64_t>), blocks, kThreads, 0,
           stream, op, amax, channel, n);
  }
}

template <class Op>
void dispatch(const Op& op, const float* amax, const Extent& e, bool aligned, Stream stream) {
  if (e.count() <= 0) return;
  if (e.channels == 1) {
    if (aligned) return start<Op, kPackWidth, Channels::kOne>(op, amax, e, stream);
    return start<Op, 1, Channels::kOne>(op, amax, e, stream);
  }
  if (e.inner == 1) {
    if (aligned && e.channels % kPackWidth == 0)
      return start<Op, kPackWidth, Channels::kLast>(op, amax, e, stream);
    return start<Op, 1, Channels::kLast>(op, amax, e, stream);
  }
  if (aligned && e.inner % kPackWidth == 0)
    return start<Op, kPackWidth, Channels::kRuns>(op, amax, e, stream);
  return start<Op, 1, Channels::kRuns>(op, amax, e, stream);
}

void check_extent(const char* name, const Extent& e) {
  check(e.outer >= 0 && e.channels >= 1 && e.inner >= 0,
        "{}: outer {}, channels {}, inner {} is not a tensor", name, e.outer, e.channels, e.inner);
}

}  // namespace

void fake_quant_forward(const FakeQuantForward& p, void*, Stream stream) {
  const Extent extent{p.outer, p.channels, p.inner};
  check_extent("fake_quant_forward", extent);
  check(p.bits >= 2 && p.bits <= 16, "fake_quant_forward: {} bits, must be 2 to 16", p.bits);
  const auto high = static_cast<float>((1 << (p.bits - (p.is_unsigned ? 0 : 1))) - 1);
  const float low = p.is_unsigned ? 0.0f : (p.narrow_range ? -high : -high - 1.0f);
  dispatch(QuantizeOp{p.x, p.y, low, high}, p.amax, extent, aligned_to_pack({p.x, p.y}), stream);
}

void fake_quant_backward(const FakeQuantBackward& p, void*, Stream stream) {
  const Extent extent{p.outer, p.channels, p.inner};
  check_extent("fake_quant_backward", extent);
  dispatch(GradientOp{p.x, p.dy, p.dx, p.is_unsigned}, p.amax, extent,
           aligned_to_pack({p.x, p.dy, p.dx}), stream);
}

}  // namespace sextant::kernels::cuda
