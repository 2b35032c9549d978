// SPDX-License-Identifier: Apache-2.0
// Quantization-aware training. Bound by memory: a block takes a chunk of neighbouring values, a
// thread four of them a turn, as one load where they are aligned. Which thread adds what to a
// gradient of a scale depends on the sizes alone.
#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/math/requantize.h"

namespace sextant::kernels::cuda {
namespace {

using namespace requantizing;

constexpr int kThreads = 256;
constexpr int64_t kChunk = 8192;

int64_t chunks_of(int64_t n) { return (n + kChunk - 1) / kChunk; }

// Four values from `at` on, those before `end`: as one load where kPacked.
template <bool kPacked>
__device__ __forceinline__ Pack<kPackWidth> read(const float* p, int64_t at, int64_t end) {
  if constexpr (kPacked) {
    return load<kPackWidth>(p + at);
  } else {
    Pack<kPackWidth> out{};
    for (int v = 0; v < kPackWidth; ++v)
      if (at + v < end) out.v[v] = p[at + v];
    return out;
  }
}
template <bool kPacked>
__device__ __forceinline__ void write(float* p, int64_t at, int64_t end,
                                      const Pack<kPackWidth>& pack) {
  if constexpr (kPacked) {
    store<kPackWidth>(p + at, pack);
  } else {
    for (int v = 0; v < kPackWidth; ++v)
      if (at + v < end) p[at + v] = pack.v[v];
  }
}

// The chunk of a block: of a row of `inner` values in [channels, inner].
struct Share {
  int64_t channel, begin, end;
};
__device__ __forceinline__ Share share_of(int64_t inner, int64_t chunks) {
  const int64_t channel = blockIdx.x / chunks;
  const int64_t begin = (blockIdx.x - channel * chunks) * kChunk;
  const int64_t end = begin + kChunk < inner ? begin + kChunk : inner;
  return {channel, channel * inner + begin, channel * inner + end};
}

template <bool kPacked>
__global__ void __launch_bounds__(kThreads) quantize_kernel(Quantize f, float* q, int64_t chunks) {
  const Share share = share_of(f.inner, chunks);
  const Steps steps(f.by_inverse, f.scale[share.channel]);
  for (int64_t at = share.begin + threadIdx.x * kPackWidth; at < share.end;
       at += kThreads * kPackWidth) {
    Pack<kPackWidth> x = read<kPacked>(f.x, at, share.end);
#pragma unroll
    for (float& v : x.v) v = clamp(rintf(steps(v)), f.low, f.high);
    write<kPacked>(q, at, share.end, x);
  }
}

template <bool kPacked>
__global__ void __launch_bounds__(kThreads) dequantize_kernel(Dequantize f, int64_t chunks) {
  const Share share = share_of(f.inner, chunks);
  const float scale = f.scale[share.channel];
  for (int64_t at = share.begin + threadIdx.x * kPackWidth; at < share.end;
       at += kThreads * kPackWidth) {
    Pack<kPackWidth> q = read<kPacked>(f.q, at, share.end);
#pragma unroll
    for (float& v : q.v) v *= scale;
    write<kPacked>(f.y, at, share.end, q);
  }
}

// dx may be dy: a thread writes what it alone has read.
template <bool kPacked>
__global__ void __launch_bounds__(kThreads)
    quantize_gradient_kernel(Quantize f, const float* dy, float* dx, double* partial,
                             int64_t chunks) {
  SEXTANT_SHARED(double[kThreads], lanes);
  const Share share = share_of(f.inner, chunks);
  const Steps steps(f.by_inverse, f.scale[share.channel]);
  double sum = 0.0;
  for (int64_t at = share.begin + threadIdx.x * kPackWidth; at < share.end;
       at += kThreads * kPackWidth) {
    const Pack<kPackWidth> x = read<kPacked>(f.x, at, share.end);
    const Pack<kPackWidth> up = read<kPacked>(dy, at, share.end);
    Pack<kPackWidth> down;
#pragma unroll
    for (int v = 0; v < kPackWidth; ++v) {
      const float s = steps(x.v[v]);
      const float level = rintf(s);
      if (at + v < share.end)
        sum += static_cast<double>(up.v[v] * step_slope(s, level, f.low, f.high));
      down.v[v] = level >= f.low && level <= f.high ? up.v[v] : 0.0f;
    }
    if (dx != nullptr) write<kPacked>(dx, at, share.end, down);
  }
  if (partial == nullptr) return;
  sum = block_sum<kThreads>(sum, lanes);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

template <int kBlock>
__global__ void __launch_bounds__(kBlock)
    fold_scales_kernel(ConvScales s, float* bias, float* factor) {
  const int64_t o = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (o < s.channels) fold_channel(s, o, bias, factor);
}

// --- requantization -----------------------------------------------------------------------------

// The channels of values that lie together in [rows, channels].
struct ChannelOf {
  Divider<uint32_t> channels;
  uint32_t first;  // of the chunk
  __device__ __forceinline__ ChannelOf(const Divider<uint32_t>& channels_, int64_t begin)
      : channels(channels_), first(static_cast<uint32_t>(begin % channels_.divisor)) {}
  __device__ __forceinline__ int operator()(int64_t offset) const {
    return static_cast<int>(channels.remainder(first + static_cast<uint32_t>(offset)));
  }
};

// Four values of a requantization's operands.
struct Operands {
  Pack<kPackWidth> sums, bias, factor, gain, residual;

  template <bool kPacked>
  __device__ __forceinline__ void read_at(const Requantize& f, const ChannelOf& channel,
                                          int64_t begin, int64_t at, int64_t end) {
    sums = read<kPacked>(f.sums, at, end);
    residual = f.residual != nullptr ? read<kPacked>(f.residual, at, end) : Pack<kPackWidth>{};
    if constexpr (kPacked) {
      const int c = channel(at - begin);
      bias = load<kPackWidth>(f.bias + c);
      factor = load<kPackWidth>(f.factor + c);
      if (f.gain != nullptr)
        gain = load<kPackWidth>(f.gain + c);
      else
        for (int v = 0; v < kPackWidth; ++v) gain.v[v] = 1.0f;
    } else {
      for (int v = 0; v < kPackWidth; ++v) {
        const int c = channel(at - begin + v);
        bias.v[v] = f.bias[c];
        factor.v[v] = f.factor[c];
        gain.v[v] = f.gain != nullptr ? f.gain[c] : 1.0f;
      }
    }
  }
};

template <Activation A, bool kPacked>
__global__ void __launch_bounds__(kThreads)
    requantize_kernel(Requantize f, Requantized<A> epilogue, Divider<uint32_t> channels, int64_t n,
                      float* y) {
  const int64_t begin = blockIdx.x * kChunk;
  const int64_t end = begin + kChunk < n ? begin + kChunk : n;
  const ChannelOf channel(channels, begin);
  for (int64_t at = begin + threadIdx.x * kPackWidth; at < end; at += kThreads * kPackWidth) {
    Operands in;
    in.read_at<kPacked>(f, channel, begin, at, end);
    Pack<kPackWidth> out;
#pragma unroll
    for (int v = 0; v < kPackWidth; ++v) {
      const float r = in.residual.v[v];
      const float real = epilogue.post(epilogue.pre(in.sums.v[v], in.bias.v[v], in.factor.v[v], r),
                                       r, in.gain.v[v]);
      out.v[v] = f.round ? clamp(rintf(real), f.low, f.high) : real;
    }
    write<kPacked>(y, at, end, out);
  }
}

template <Activation A, bool kPacked>
__global__ void __launch_bounds__(kThreads)
    requantize_gradient_kernel(RequantizeBackward p, Requantized<A> epilogue,
                               Divider<uint32_t> channels, int64_t n, double* partial) {
  SEXTANT_SHARED(double[kThreads], lanes);
  const Requantize& f = p.form;
  const int64_t begin = blockIdx.x * kChunk;
  const int64_t end = begin + kChunk < n ? begin + kChunk : n;
  const ChannelOf channel(channels, begin);
  double sum = 0.0;
  for (int64_t at = begin + threadIdx.x * kPackWidth; at < end; at += kThreads * kPackWidth) {
    Operands in;
    in.read_at<kPacked>(f, channel, begin, at, end);
    const Pack<kPackWidth> up = read<kPacked>(p.dy, at, end);
    Pack<kPackWidth> dv, dresidual;
#pragma unroll
    for (int v = 0; v < kPackWidth; ++v) {
      const float r = in.residual.v[v];
      const float pre = epilogue.pre(in.sums.v[v], in.bias.v[v], in.factor.v[v], r);
      const float s = epilogue.post(pre, r, in.gain.v[v]);
      const float level = rintf(s);
      if (at + v < end) sum += static_cast<double>(up.v[v] * step_slope(s, level, f.low, f.high));
      const float d = !f.round || (level >= f.low && level <= f.high) ? up.v[v] : 0.0f;
      dv.v[v] = d * activate_grad<A>(pre) * in.gain.v[v];
      dresidual.v[v] = p.residual_factor * (epilogue.steps.adds_before ? dv.v[v] : d);
    }
    write<kPacked>(p.dv, at, end, dv);
    if (p.dresidual != nullptr) write<kPacked>(p.dresidual, at, end, dresidual);
  }
  if (partial == nullptr) return;
  sum = block_sum<kThreads>(sum, lanes);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

int64_t values_of(const Requantize& f) { return f.rows * f.channels; }

bool packs(const Requantize& f, std::initializer_list<const void*> others) {
  return f.channels % kPackWidth == 0 &&
         aligned_to_pack({f.sums, f.bias, f.factor, f.gain, f.residual}) && aligned_to_pack(others);
}

void check_rows(const char* name, int64_t channels, int64_t inner) {
  check(channels >= 0 && inner >= 0 && channels * chunks_of(inner) < (int64_t{1} << 31),
        "{}: {} channels of {} values", name, channels, inner);
}
void check_form(const char* name, const Requantize& f) {
  check(f.rows >= 0 && f.channels >= 1 && f.channels < (int64_t{1} << 30) &&
            chunks_of(values_of(f)) < (int64_t{1} << 31),
        "{}: {} rows of {} channels", name, f.rows, f.channels);
}

}  // namespace

void quantize_forward(const QuantizeForward& p, void*, Stream stream) {
  const Quantize& f = p.form;
  check_rows("quantize_forward", f.channels, f.inner);
  const int64_t chunks = chunks_of(f.inner);
  if (f.channels * chunks == 0) return;
  const auto start = [&](const auto& kernel) {
    launch(kernel, static_cast<unsigned>(f.channels * chunks), kThreads, 0, stream, f, p.q, chunks);
  };
  if (f.inner % kPackWidth == 0 && aligned_to_pack({f.x, p.q}))
    start(SEXTANT_KERNEL(quantize_kernel<true>));
  else
    start(SEXTANT_KERNEL(quantize_kernel<false>));
}

int64_t workspace_bytes(const QuantizeBackward& p) {
  if (p.dscale == nullptr) return 0;
  return p.form.channels * chunks_of(p.form.inner) * static_cast<int64_t>(sizeof(double));
}

void quantize_backward(const QuantizeBackward& p, void* workspace, Stream stream) {
  const Quantize& f = p.form;
  check_rows("quantize_backward", f.channels, f.inner);
  auto* partial = p.dscale != nullptr ? static_cast<double*>(workspace) : nullptr;
  const int64_t chunks = chunks_of(f.inner);
  const auto start = [&](const auto& kernel) {
    launch(kernel, static_cast<unsigned>(f.channels * chunks), kThreads, 0, stream, f, p.dy, p.dx,
           partial, chunks);
  };
  if (f.channels * chunks > 0) {
    if (f.inner % kPackWidth == 0 && aligned_to_pack({f.x, p.dy, p.dx}))
      start(SEXTANT_KERNEL(quantize_gradient_kernel<true>));
    else
      start(SEXTANT_KERNEL(quantize_gradient_kernel<false>));
  }
  if (p.dscale != nullptr && f.channels > 0)
    sum_partials(partial, chunks, 1.0, p.dscale, stream, f.channels);
}

void dequantize(const Dequantize& p, void*, Stream stream) {
  check_rows("dequantize", p.channels, p.inner);
  const int64_t chunks = chunks_of(p.inner);
  if (p.channels * chunks == 0) return;
  const auto start = [&](const auto& kernel) {
    launch(kernel, static_cast<unsigned>(p.channels * chunks), kThreads, 0, stream, p, chunks);
  };
  if (p.inner % kPackWidth == 0 && aligned_to_pack({p.q, p.y}))
    start(SEXTANT_KERNEL(dequantize_kernel<true>));
  else
    start(SEXTANT_KERNEL(dequantize_kernel<false>));
}

void fold_scales(const FoldScales& p, void*, Stream stream) {
  const ConvScales& s = p.scales;
  if (s.channels == 0) return;
  launch(SEXTANT_KERNEL(fold_scales_kernel<kThreads>),
         static_cast<unsigned>((s.channels + kThreads - 1) / kThreads), kThreads, 0, stream, s,
         p.bias, p.factor);
}

void requantize_forward(const RequantizeForward& p, void*, Stream stream) {
  const Requantize& f = p.form;
  check_form("requantize_forward", f);
  const int64_t n = values_of(f);
  if (n == 0) return;
  dispatch_activation(f.epilogue.activation, [&](auto tag) {
    constexpr Activation kAct = decltype(tag)::value;
    const auto start = [&](const auto& kernel) {
      launch(kernel, static_cast<unsigned>(chunks_of(n)), kThreads, 0, stream, f,
             Requantized<kAct>(f), Divider<uint32_t>(f.channels), n, p.y);
    };
    if (packs(f, {p.y}))
      start(SEXTANT_KERNEL(requantize_kernel<kAct, true>));
    else
      start(SEXTANT_KERNEL(requantize_kernel<kAct, false>));
  });
}

int64_t workspace_bytes(const RequantizeBackward& p) {
  if (p.dscale == nullptr) return 0;
  return chunks_of(values_of(p.form)) * static_cast<int64_t>(sizeof(double));
}

void requantize_backward(const RequantizeBackward& p, void* workspace, Stream stream) {
  const Requantize& f = p.form;
  check_form("requantize_backward", f);
  const int64_t n = values_of(f);
  auto* partial = p.dscale != nullptr ? static_cast<double*>(workspace) : nullptr;
  dispatch_activation(f.epilogue.activation, [&](auto tag) {
    constexpr Activation kAct = decltype(tag)::value;
    const auto start = [&](const auto& kernel) {
      launch(kernel, static_cast<unsigned>(chunks_of(n)), kThreads, 0, stream, p,
             Requantized<kAct>(f), Divider<uint32_t>(f.channels), n, partial);
    };
    if (n == 0) return;
    if (packs(f, {p.dy, p.dv, p.dresidual}))
      start(SEXTANT_KERNEL(requantize_gradient_kernel<kAct, true>));
    else
      start(SEXTANT_KERNEL(requantize_gradient_kernel<kAct, false>));
  });
  // The sum of nothing is written too.
  if (p.dscale != nullptr) sum_partials(partial, chunks_of(n), 1.0, p.dscale, stream);
}

}  // namespace sextant::kernels::cuda
