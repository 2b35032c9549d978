// SPDX-License-Identifier: Apache-2.0
// The kernels behind rep_bn_act. Forward in training: moments_kernel (each block reduces a chunk of
// rows), finish_moments_kernel (the chunks), apply_kernel. Backward: gradient_sums_kernel,
// finish_sums_kernel, input_gradient_kernel. No atomics: the order of every sum is fixed by the
// shape alone, so results repeat bit for bit, on any device.
//
// A thread owns kWidth neighbouring channels (threadIdx.x, blockIdx.x) and a set of rows
// (threadIdx.y, blockIdx.y), so parameters stay in registers and a warp reads whole lines.
#pragma once

#include "kernels/cuda/device/pack.cuh"
#include "kernels/math/activation.h"

namespace sextant::kernels::cuda::rep {

inline constexpr int kThreads = 256;
inline constexpr int kFinishChannels = 32;  // channels and chunk lanes of the finishing kernels
inline constexpr int kFinishLanes = 16;

struct Size {
  int64_t rows;
  int64_t rows_per_chunk;
  int channels;
  int chunks;
};

template <class T, int B>
struct Branches {
  const T* x[B];
  const float* gamma[B];
  const float* beta[B];
  const float* mean[B];
  const float* spread[B];  // inv_std, or the variance:
  bool spread_is_variance;
  float eps;
};

// Adds the per-channel partials [value][y * blockDim.x + x] of a block's row lanes by `merge`,
// which takes the offset of the lane to add; the result is in the lanes with threadIdx.y == 0.
template <class Write, class Merge>
__device__ __forceinline__ void reduce_row_lanes(const Write& write, const Merge& merge) {
  const int lane = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  write(lane);
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) {
      merge(lane + static_cast<int>(half * blockDim.x));
      write(lane);
    }
  }
}

// Partial moments of each chunk: partial[chunk][branch][mean, m2][channel]; m2 is the sum of
// squared deviations from that mean.
//
// Within a thread, sums are taken around the first value it sees. As that value is one of the
// thread's own, (shift - mean)^2 <= m2, and the subtraction m2 = s2 - s1^2 / n loses at most a
// factor n (the thread's rows) in precision, whatever the data. Threads and chunks are then joined
// by Chan, Golub and LeVeque's formula (1979).
template <class T, int B, int kWidth>
__global__ void __launch_bounds__(kThreads)
    moments_kernel(Branches<T, B> in, float* partial, Size size) {
  SEXTANT_DYNAMIC_SHARED(float, shared);  // [2 * B * kWidth + 1][kThreads]
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * kWidth;
  const bool active = channel < size.channels;
  const int64_t begin = blockIdx.y * size.rows_per_chunk;
  const int64_t end =
      begin + size.rows_per_chunk < size.rows ? begin + size.rows_per_chunk : size.rows;
  float mean[B][kWidth] = {};
  float m2[B][kWidth] = {};
  float count = 0.0f;
  const int64_t first = begin + threadIdx.y;
  if (active && first < end) {
    Pack<kWidth> shift[B];
    float s1[B][kWidth] = {};
    float s2[B][kWidth] = {};
#pragma unroll
    for (int b = 0; b < B; ++b) shift[b] = load<kWidth>(in.x[b] + first * size.channels + channel);
#pragma unroll 4
    for (int64_t r = first + blockDim.y; r < end; r += blockDim.y) {
#pragma unroll
      for (int b = 0; b < B; ++b) {
        const Pack<kWidth> x = load<kWidth>(in.x[b] + r * size.channels + channel);
#pragma unroll
        for (int v = 0; v < kWidth; ++v) {
          const float d = x.v[v] - shift[b].v[v];
          s1[b][v] += d;
          s2[b][v] += d * d;
        }
      }
    }
    count = static_cast<float>((end - 1 - first) / blockDim.y + 1);
    const float inverse = 1.0f / count;
#pragma unroll
    for (int b = 0; b < B; ++b)
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        mean[b][v] = shift[b].v[v] + s1[b][v] * inverse;
        m2[b][v] = fmaxf(s2[b][v] - s1[b][v] * s1[b][v] * inverse, 0.0f);
      }
  }

  constexpr int kCount = 2 * B * kWidth;
  const auto write = [&](int lane) {
#pragma unroll
    for (int b = 0; b < B; ++b)
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        shared[(2 * b * kWidth + v) * kThreads + lane] = mean[b][v];
        shared[((2 * b + 1) * kWidth + v) * kThreads + lane] = m2[b][v];
      }
    shared[kCount * kThreads + lane] = count;
  };
  const auto merge = [&](int other) {
    const float n = shared[kCount * kThreads + other];
    if (n == 0.0f) return;  // later rows than mine: they run out first
    const float total = count + n;
    const float weight = n / total;
#pragma unroll
    for (int b = 0; b < B; ++b)
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        const float delta = shared[(2 * b * kWidth + v) * kThreads + other] - mean[b][v];
        mean[b][v] += delta * weight;
        m2[b][v] +=
            shared[((2 * b + 1) * kWidth + v) * kThreads + other] + delta * delta * count * weight;
      }
    count = total;
  };
  reduce_row_lanes(write, merge);
  if (threadIdx.y != 0 || !active) return;
#pragma unroll
  for (int b = 0; b < B; ++b)
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      float* out = partial + (static_cast<int64_t>(blockIdx.y) * B + b) * 2 * size.channels;
      out[channel + v] = mean[b][v];
      out[size.channels + channel + v] = m2[b][v];
    }
}

template <int B>
struct Statistics {
  float* mean[B];
  float* inv_std[B];
  float* running_mean[B];
  float* running_var[B];
  float eps;
  float momentum;
  // Not null: instead of all others the sums of the values and of their squares, [B][2][channels],
  // for the processes to add up; after them the number of rows.
  double* sums;
};

// Statistics of `count` rows of a channel.
template <int B>
__device__ __forceinline__ void write_statistics(const Statistics<B>& out, int b, int channel,
                                                 double count, double mean, double m2) {
  const double var = m2 / count;
  const double m = static_cast<double>(out.momentum);
  const auto blend = [&](float* running, double batch) {
    if (running == nullptr) return;
    running[channel] =
        static_cast<float>((1.0 - m) * static_cast<double>(running[channel]) + m * batch);
  };
#pragma unroll
  for (int k = 0; k < B; ++k) {  // a run-time index would move the parameters to local memory
    if (k != b) continue;
    out.mean[k][channel] = static_cast<float>(mean);
    out.inv_std[k][channel] = static_cast<float>(1.0 / sqrt(var + static_cast<double>(out.eps)));
    blend(out.running_mean[k], mean);
    blend(out.running_var[k], m2 / (count - 1.0));
  }
}

// One item for each branch and channel: the statistics from the sums of all processes.
template <int B>
struct SharedStatisticsOp {
  Statistics<B> out;
  int channels;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const int b = static_cast<int>(i) / channels, channel = static_cast<int>(i) % channels;
    const double* of_branch = out.sums + static_cast<int64_t>(b) * 2 * channels;
    const double count = out.sums[static_cast<int64_t>(B) * 2 * channels];
    const double sum = of_branch[channel], mean = sum / count;
    const double m2 = of_branch[channels + channel] - sum * mean;
    write_statistics(out, b, channel, count, mean, m2 > 0.0 ? m2 : 0.0);
  }
};

// Joins the chunks, in double: blockIdx.y is the branch.
template <int B>
__global__ void __launch_bounds__(kFinishChannels* kFinishLanes)
    finish_moments_kernel(const float* partial, Statistics<B> out, Size size) {
  struct Moments {
    double count, mean, m2;
    __device__ __forceinline__ void join(const Moments& o) {
      if (o.count == 0.0) return;
      const double total = count + o.count;
      const double delta = o.mean - mean;
      mean += delta * (o.count / total);
      m2 += o.m2 + delta * delta * count * (o.count / total);
      count = total;
    }
  };
  SEXTANT_SHARED(Moments[kFinishLanes][kFinishChannels], lanes);
  const int channel =
      static_cast<int>(blockIdx.x) * kFinishChannels + static_cast<int>(threadIdx.x);
  const int b = static_cast<int>(blockIdx.y);
  Moments mine{0.0, 0.0, 0.0};
  if (channel < size.channels)
    for (int k = static_cast<int>(threadIdx.y); k < size.chunks; k += kFinishLanes) {
      const int64_t left = size.rows - k * size.rows_per_chunk;
      const float* in = partial + (static_cast<int64_t>(k) * B + b) * 2 * size.channels + channel;
      mine.join({static_cast<double>(left < size.rows_per_chunk ? left : size.rows_per_chunk),
                 static_cast<double>(in[0]), static_cast<double>(in[size.channels])});
    }
  lanes[threadIdx.y][threadIdx.x] = mine;
  for (unsigned half = kFinishLanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) {
      mine.join(lanes[threadIdx.y + half][threadIdx.x]);
      lanes[threadIdx.y][threadIdx.x] = mine;
    }
  }
  if (threadIdx.y != 0 || channel >= size.channels) return;
  if (out.sums == nullptr) return write_statistics(out, b, channel, mine.count, mine.mean, mine.m2);
  double* of_branch = out.sums + static_cast<int64_t>(b) * 2 * size.channels;
  of_branch[channel] = mine.count * mine.mean;
  of_branch[size.channels + channel] = mine.m2 + mine.count * mine.mean * mine.mean;
  if (b == 0 && channel == 0)
    out.sums[static_cast<int64_t>(B) * 2 * size.channels] = static_cast<double>(size.rows);
}

// One thread's channels: pre = beta + sum_b (x_b - mean_b) * scale_b, scale_b = gamma_b *
// inv_std_b.
template <int B, int kWidth>
struct Affine {
  float mean[B][kWidth];
  float scale[B][kWidth];
  float beta[kWidth];

  template <class T>
  __device__ __forceinline__ void read(const Branches<T, B>& in, int channel) {
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      beta[v] = 0.0f;
#pragma unroll
      for (int b = 0; b < B; ++b) {
        const int c = channel + v;
        const float spread = in.spread[b][c];
        const float inv_std = in.spread_is_variance ? 1.0f / sqrtf(spread + in.eps) : spread;
        mean[b][v] = in.mean[b][c];
        scale[b][v] = in.gamma[b][c] * inv_std;
        beta[v] += in.beta[b][c];
      }
    }
  }
  __device__ __forceinline__ float pre(const Pack<kWidth> (&x)[B], int v) const {
    float sum = beta[v];
#pragma unroll
    for (int b = 0; b < B; ++b) sum += (x[b].v[v] - mean[b][v]) * scale[b][v];
    return sum;
  }
};

template <class T, int B, int kWidth>
__device__ __forceinline__ void load_row(Pack<kWidth> (&x)[B], const Branches<T, B>& in,
                                         int64_t at) {
#pragma unroll
  for (int b = 0; b < B; ++b) x[b] = load<kWidth>(in.x[b] + at);
}

template <class T, Activation A, int B, int kWidth>
__global__ void __launch_bounds__(kThreads) apply_kernel(Branches<T, B> in, T* y, Size size) {
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * kWidth;
  if (channel >= size.channels) return;
  Affine<B, kWidth> affine;
  affine.read(in, channel);
  const int64_t stride = static_cast<int64_t>(gridDim.y) * blockDim.y;
  const auto finish = [&](const Pack<kWidth>(&x)[B], int64_t at) {
    Pack<kWidth> out;
#pragma unroll
    for (int v = 0; v < kWidth; ++v) out.v[v] = activate<A>(affine.pre(x, v));
    store<kWidth>(y + at, out);
  };
  int64_t r = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
  // Two rows a turn, loads first: a store might alias the next load, for all the compiler knows.
  for (; r + stride < size.rows; r += 2 * stride) {
    const int64_t at = r * size.channels + channel;
    const int64_t next = at + stride * size.channels;
    Pack<kWidth> x[B], z[B];
    load_row(x, in, at);
    load_row(z, in, next);
    finish(x, at);
    finish(z, next);
  }
  if (r < size.rows) {
    const int64_t at = r * size.channels + channel;
    Pack<kWidth> x[B];
    load_row(x, in, at);
    finish(x, at);
  }
}

// Per chunk: partial[chunk][0][channel] = sum g, [chunk][1 + b][channel] = sum g (x_b - mean_b),
// with g = dy * act'(pre).
template <class T, Activation A, int B, int kWidth>
__global__ void __launch_bounds__(kThreads)
    gradient_sums_kernel(Branches<T, B> in, const T* dy, float* partial, Size size) {
  SEXTANT_DYNAMIC_SHARED(float, shared);  // [(B + 1) * kWidth][kThreads]
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * kWidth;
  const bool active = channel < size.channels;
  const int64_t begin = blockIdx.y * size.rows_per_chunk;
  const int64_t end =
      begin + size.rows_per_chunk < size.rows ? begin + size.rows_per_chunk : size.rows;
  float sum[B + 1][kWidth] = {};
  if (active) {
    Affine<B, kWidth> affine;
    affine.read(in, channel);
#pragma unroll 2
    for (int64_t r = begin + threadIdx.y; r < end; r += blockDim.y) {
      const int64_t at = r * size.channels + channel;
      Pack<kWidth> x[B];
      load_row(x, in, at);
      const Pack<kWidth> up = load<kWidth>(dy + at);
#pragma unroll
      for (int v = 0; v < kWidth; ++v) {
        const float g = up.v[v] * activate_grad<A>(affine.pre(x, v));
        sum[0][v] += g;
#pragma unroll
        for (int b = 0; b < B; ++b) sum[b + 1][v] += g * (x[b].v[v] - affine.mean[b][v]);
      }
    }
  }
  const auto write = [&](int lane) {
#pragma unroll
    for (int k = 0; k <= B; ++k)
#pragma unroll
      for (int v = 0; v < kWidth; ++v) shared[(k * kWidth + v) * kThreads + lane] = sum[k][v];
  };
  const auto merge = [&](int other) {
#pragma unroll
    for (int k = 0; k <= B; ++k)
#pragma unroll
      for (int v = 0; v < kWidth; ++v) sum[k][v] += shared[(k * kWidth + v) * kThreads + other];
  };
  reduce_row_lanes(write, merge);
  if (threadIdx.y != 0 || !active) return;
#pragma unroll
  for (int k = 0; k <= B; ++k)
#pragma unroll
    for (int v = 0; v < kWidth; ++v)
      partial[(static_cast<int64_t>(blockIdx.y) * (B + 1) + k) * size.channels + channel + v] =
          sum[k][v];
}

template <int B>
struct Sums {
  const float* inv_std[B];
  float* dgamma[B];
  float* dbeta[B];
  double* sums;  // not null: them too, [B + 1][channels], and after them the number of rows
};

// Adds the chunks, in double: blockIdx.y 0 gives dbeta of all branches, 1 + b dgamma of branch b.
template <int B>
__global__ void __launch_bounds__(kFinishChannels* kFinishLanes)
    finish_sums_kernel(const float* partial, Sums<B> out, Size size) {
  SEXTANT_SHARED(double[kFinishLanes][kFinishChannels], lanes);
  const int channel =
      static_cast<int>(blockIdx.x) * kFinishChannels + static_cast<int>(threadIdx.x);
  const int which = static_cast<int>(blockIdx.y);
  double sum = 0.0;
  if (channel < size.channels)
    for (int k = static_cast<int>(threadIdx.y); k < size.chunks; k += kFinishLanes)
      sum += static_cast<double>(
          partial[(static_cast<int64_t>(k) * (B + 1) + which) * size.channels + channel]);
  lanes[threadIdx.y][threadIdx.x] = sum;
  for (unsigned half = kFinishLanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) {
      sum += lanes[threadIdx.y + half][threadIdx.x];
      lanes[threadIdx.y][threadIdx.x] = sum;
    }
  }
  if (threadIdx.y != 0 || channel >= size.channels) return;
  if (out.sums != nullptr) {
    out.sums[static_cast<int64_t>(which) * size.channels + channel] = sum;
    if (which == 0 && channel == 0)
      out.sums[static_cast<int64_t>(B + 1) * size.channels] = static_cast<double>(size.rows);
  }
#pragma unroll
  for (int b = 0; b < B; ++b) {
    if (which == 0) out.dbeta[b][channel] = static_cast<float>(sum);
    if (which == b + 1)
      out.dgamma[b][channel] =
          static_cast<float>(sum * static_cast<double>(out.inv_std[b][channel]));
  }
}

// One item for each channel: what input_gradient_kernel reads, from the sums of all processes.
template <int B>
struct SharedSumsOp {
  const double* sums;
  const float* inv_std[B];
  float* all;  // [B + 1][channels]: of dgamma, then of dbeta
  int channels;
  __device__ __forceinline__ void operator()(uint32_t c) const {
    all[static_cast<int64_t>(B) * channels + c] = static_cast<float>(sums[c]);
#pragma unroll
    for (int b = 0; b < B; ++b)
      all[static_cast<int64_t>(b) * channels + c] = static_cast<float>(
          sums[static_cast<int64_t>(b + 1) * channels + c] * static_cast<double>(inv_std[b][c]));
  }
};

template <class T, int B>
struct InputGradients {
  const T* dy;
  const float* dgamma[B];
  const float* dbeta;
  const double* rows;  // of all processes; null: those given
  T* dx[B];            // null: not wanted
  bool training;
};

// dx_b = scale_b * (g - mean(g) - xhat_b * mean(g xhat_b)) = scale_b * g + slope_b * (x_b - mean_b)
// + offset_b; slope and offset are zero in eval mode.
template <class T, Activation A, int B, int kWidth>
__global__ void __launch_bounds__(kThreads)
    input_gradient_kernel(Branches<T, B> in, InputGradients<T, B> p, Size size) {
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * kWidth;
  if (channel >= size.channels) return;
  Affine<B, kWidth> affine;
  affine.read(in, channel);
  float slope[B][kWidth] = {};
  float mean_g[kWidth] = {};
  if (p.training) {
    const float inverse =
        1.0f / (p.rows != nullptr ? static_cast<float>(*p.rows) : static_cast<float>(size.rows));
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      mean_g[v] = p.dbeta[channel + v] * inverse;
#pragma unroll
      for (int b = 0; b < B; ++b)
        slope[b][v] =
            -affine.scale[b][v] * in.spread[b][channel + v] * (p.dgamma[b][channel + v] * inverse);
    }
  }
  const auto finish = [&](const Pack<kWidth>(&x)[B], const Pack<kWidth>& up, int64_t at) {
    float g[kWidth];
#pragma unroll
    for (int v = 0; v < kWidth; ++v)
      g[v] = up.v[v] * activate_grad<A>(affine.pre(x, v)) - mean_g[v];
#pragma unroll
    for (int b = 0; b < B; ++b) {
      if (p.dx[b] == nullptr) continue;
      Pack<kWidth> out;
#pragma unroll
      for (int v = 0; v < kWidth; ++v)
        out.v[v] = affine.scale[b][v] * g[v] + slope[b][v] * (x[b].v[v] - affine.mean[b][v]);
      store<kWidth>(p.dx[b] + at, out);
    }
  };
  const int64_t stride = static_cast<int64_t>(gridDim.y) * blockDim.y;
  int64_t r = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
  for (; r + stride < size.rows; r += 2 * stride) {
    const int64_t at = r * size.channels + channel;
    const int64_t next = at + stride * size.channels;
    Pack<kWidth> x[B], z[B];
    load_row(x, in, at);
    const Pack<kWidth> up = load<kWidth>(p.dy + at);
    load_row(z, in, next);
    const Pack<kWidth> up_next = load<kWidth>(p.dy + next);
    finish(x, up, at);
    finish(z, up_next, next);
  }
  if (r < size.rows) {
    const int64_t at = r * size.channels + channel;
    Pack<kWidth> x[B];
    load_row(x, in, at);
    finish(x, load<kWidth>(p.dy + at), at);
  }
}

}  // namespace sextant::kernels::cuda::rep
