// SPDX-License-Identifier: Apache-2.0
// Memory traffic, in passes over one [rows, channels] tensor for k branches: forward k (statistics)
// + k + 1, backward (k + 1) + (k + 1) + k. No intermediate tensor is stored.
#include "kernels/rep_bn_act.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/f32_only.h"
#include "kernels/cpu/vec.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

// Rows are cut into chunks by their number alone, each chunk is summed in double, the chunks are
// added in order: the result does not depend on the threads. Double costs nothing here (the loops
// are bound by memory), and f32 sums would matter: a deep network in training mode amplifies an
// error of 1e-6 in a variance to 1e-2 in a gradient.
struct Chunks {
  explicit Chunks(int64_t n) : rows(n), count(std::clamp<int64_t>(n / 512, 1, 256)) {}
  int64_t begin(int64_t c) const { return rows * c / count; }
  int64_t rows, count;
};

// Calls wide(c) for each block of 16 channels that starts at c, narrow(c) for each one left over.
template <class Wide, class Narrow>
void for_channel_blocks(int64_t channels, const Wide& wide, const Narrow& narrow) {
  int64_t c = 0;
  for (; c + kVec <= channels; c += kVec) wide(c);
  for (; c < channels; ++c) narrow(c);
}

// A vector of doubles in registers of the base set: as one type of 128 bytes, GCC 12 moves it about
// through the stack and general registers, at a tenth of the speed.
struct VecD {
  using Four = double __attribute__((vector_size(32)));
  Four v[4];
  VecD& operator+=(const VecD& o) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) v[i] += o.v[i];
    return *this;
  }
  friend VecD operator*(const VecD& a, const VecD& b) {
    return {{a.v[0] * b.v[0], a.v[1] * b.v[1], a.v[2] * b.v[2], a.v[3] * b.v[3]}};
  }
};
// A vector or one value, by the same name.
inline void load_any(const float* p, Vec& v) { v = load(p); }
inline void load_any(const float* p, float& v) { v = *p; }
inline VecD widen(const Vec& v) {
  using Four = float __attribute__((vector_size(16)));
  Four f[4];
  std::memcpy(f, &v, sizeof(f));
  VecD d;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) d.v[i] = __builtin_convertvector(f[i], VecD::Four);
  return d;
}
inline double widen(float v) { return v; }
inline void store_any(double* out, const VecD& d) { std::memcpy(out, d.v, sizeof(d.v)); }
inline void store_any(double* out, double v) { *out = v; }
// sums[c] = sum of x, squares[c] = sum of x^2 over the rows of a chunk.
template <class V>
void chunk_moments(const float* x, int64_t channels, int64_t begin, int64_t end, double* sums,
                   double* squares) {
  decltype(widen(V{})) s{}, q{};
  for (int64_t r = begin; r < end; ++r) {
    V v;
    load_any(x + r * channels, v);
    const auto d = widen(v);
    s += d;
    q += d * d;
  }
  store_any(sums, s);
  store_any(squares, q);
}

// The sums of the rows' values of one branch, and after them of the values' squares: [2, channels].
void add_moments(const RepBnActForward& p, int b, double* moments) {
  const auto& br = p.branch[static_cast<size_t>(b)];
  const int64_t channels = p.channels;
  const Chunks chunks(p.rows);
  std::vector<double> part(static_cast<size_t>(chunks.count * channels * 2));
  parallel_for(chunks.count, 1, [&](int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k) {
      double* sums = part.data() + k * channels * 2;
      double* squares = sums + channels;
      const int64_t begin = chunks.begin(k), end = chunks.begin(k + 1);
      for_channel_blocks(
          channels,
          [&](int64_t c) {
            chunk_moments<Vec>(f32(br.x) + c, channels, begin, end, sums + c, squares + c);
          },
          [&](int64_t c) {
            chunk_moments<float>(f32(br.x) + c, channels, begin, end, sums + c, squares + c);
          });
    }
  });
  for (int64_t k = 0; k < chunks.count; ++k)
    for (int64_t i = 0; i < 2 * channels; ++i)
      moments[i] += part[static_cast<size_t>(k * channels * 2 + i)];
}

void batch_statistics(const RepBnActForward& p) {
  const int64_t channels = p.channels;
  // Of each branch, then the number of rows.
  std::vector<double> moments(static_cast<size_t>(p.branches * 2 * channels + 1));
  moments.back() = static_cast<double>(p.rows);
  for (int b = 0; b < p.branches; ++b) add_moments(p, b, moments.data() + b * 2 * channels);
  if (p.across) p.across->sum(moments.data(), std::ssize(moments), DType::kF64, Device::kCpu);
  const double n = moments.back();
  check(n >= 2, "rep_bn_act: training on one value per channel, needs two");
  for (int b = 0; b < p.branches; ++b) {
    const auto& br = p.branch[static_cast<size_t>(b)];
    for (int64_t c = 0; c < channels; ++c) {
      const double sum = moments[static_cast<size_t>(b * 2 * channels + c)];
      const double square = moments[static_cast<size_t>((b * 2 + 1) * channels + c)];
      const double mean = sum / n;
      const double var = std::max(0.0, (square - sum * sum / n) / n);
      br.mean[c] = static_cast<float>(mean);
      br.inv_std[c] = static_cast<float>(1.0 / std::sqrt(var + p.eps));
      if (br.running_mean) {
        const double m = p.momentum;
        br.running_mean[c] = static_cast<float>((1 - m) * br.running_mean[c] + m * mean);
        br.running_var[c] =
            static_cast<float>((1 - m) * br.running_var[c] + m * var * n / (n - 1.0));
      }
    }
  }
}

void keep_running_statistics(const RepBnActForward& p, int b) {
  const auto& br = p.branch[static_cast<size_t>(b)];
  for (int64_t c = 0; c < p.channels; ++c) {
    br.mean[c] = br.running_mean[c];
    br.inv_std[c] = static_cast<float>(1.0 / std::sqrt(double{br.running_var[c]} + p.eps));
  }
}

// pre = sum_b scale_b * (x_b - mean_b) + shift. The means are subtracted first: folded into the
// shift they would cancel in f32 when a mean is much larger than its deviation.
struct Affine {
  std::array<std::vector<float>, kMaxBranches> scale, mean;
  std::vector<float> shift;
};

template <class Branches, class GetMean, class GetInvStd>
Affine fold(const Branches& branch, int branches, int64_t channels, const GetMean& mean,
            const GetInvStd& inv_std) {
  Affine a;
  const auto n = static_cast<size_t>(channels);
  a.shift.assign(n, 0.0f);
  for (size_t b = 0; b < static_cast<size_t>(branches); ++b) {
    a.scale[b].resize(n);
    a.mean[b].resize(n);
    for (size_t c = 0; c < n; ++c) {
      a.scale[b][c] = static_cast<float>(branch[b].gamma[c] * inv_std(branch[b], c));
      a.mean[b][c] = mean(branch[b], c);
      a.shift[c] += branch[b].beta[c];
    }
  }
  return a;
}

// The pre-activation of B branches at channel c of a row; leaves x_b - mean_b in `centred`.
template <int B, class V, class Branches>
V pre_activation(const Affine& a, const Branches& branch, int64_t row, int64_t c, V (&centred)[B]) {
  V pre;
  load_any(a.shift.data() + c, pre);
  for (size_t b = 0; b < B; ++b) {
    V x, mean, scale;
    load_any(f32(branch[b].x) + row + c, x);
    load_any(a.mean[b].data() + c, mean);
    load_any(a.scale[b].data() + c, scale);
    centred[b] = x - mean;
    pre += scale * centred[b];
  }
  return pre;
}

int64_t row_grain(int64_t channels) { return std::max<int64_t>(1, (1 << 14) / channels); }

template <Activation A, int B>
void apply(const RepBnActForward& p, const Affine& a) {
  const int64_t channels = p.channels;
  parallel_for(p.rows, row_grain(channels), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t row = r * channels;
      for_channel_blocks(
          channels,
          [&](int64_t c) {
            Vec x[B];
            store(f32(p.y) + row + c, activate<A>(pre_activation<B, Vec>(a, p.branch, row, c, x)));
          },
          [&](int64_t c) {
            float x[B];
            f32(p.y)[row + c] = activate<A>(pre_activation<B, float>(a, p.branch, row, c, x));
          });
    }
  });
}

// sums[0] = sum g, sums[1 + b] = sum g * (x_b - mean_b), with g = dy * act'(pre).
template <Activation A, int B, class V>
void chunk_gradients(const RepBnActBackward& p, const Affine& a, int64_t c, int64_t begin,
                     int64_t end, double* sums, int64_t pitch) {
  decltype(widen(V{})) acc[B + 1]{};
  for (int64_t r = begin; r < end; ++r) {
    V x[B], g;
    const V pre = pre_activation<B, V>(a, p.branch, r * p.channels, c, x);
    load_any(f32(p.dy) + r * p.channels + c, g);
    g = g * activate_grad<A>(pre);
    acc[0] += widen(g);
    for (int b = 0; b < B; ++b) acc[b + 1] += widen(V(g * x[b]));
  }
  for (int b = 0; b <= B; ++b) store_any(sums + b * pitch, acc[b]);
}

// dx_b = scale_b * (g - mean(g) - (x_b - mean_b) * inv_std_b^2 * mean(g (x_b - mean_b)))
//      = scale_b * g + slope_b * (x_b - mean_b) + offset_b
struct InputGradient {
  std::vector<float> slope, offset;
};

template <Activation A, int B, class V>
void write_gradients(const RepBnActBackward& p, const Affine& a,
                     const std::array<InputGradient, B>& in, int64_t row, int64_t c) {
  V x[B], g;
  const V pre = pre_activation<B, V>(a, p.branch, row, c, x);
  load_any(f32(p.dy) + row + c, g);
  g = g * activate_grad<A>(pre);
  for (size_t b = 0; b < B; ++b) {
    if (!p.branch[b].dx) continue;
    V scale, slope, offset;
    load_any(a.scale[b].data() + c, scale);
    load_any(in[b].slope.data() + c, slope);
    load_any(in[b].offset.data() + c, offset);
    const V dx = scale * g + slope * x[b] + offset;
    std::memcpy(f32(p.branch[b].dx) + row + c, &dx, sizeof(dx));
  }
}

template <Activation A, int B>
void backward(const RepBnActBackward& p) {
  const int64_t channels = p.channels;
  const Affine a = fold(
      p.branch, B, channels, [](const auto& br, size_t c) { return br.mean[c]; },
      [](const auto& br, size_t c) { return double{br.inv_std[c]}; });
  const Chunks chunks(p.rows);
  const int64_t block = channels * (B + 1);
  std::vector<double> part(static_cast<size_t>(chunks.count * block));
  parallel_for(chunks.count, 1, [&](int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k) {
      double* sums = part.data() + k * block;
      const int64_t begin = chunks.begin(k), end = chunks.begin(k + 1);
      for_channel_blocks(
          channels,
          [&](int64_t c) { chunk_gradients<A, B, Vec>(p, a, c, begin, end, sums + c, channels); },
          [&](int64_t c) {
            chunk_gradients<A, B, float>(p, a, c, begin, end, sums + c, channels);
          });
    }
  });
  // As the parts; after them the number of rows.
  std::vector<double> sums(static_cast<size_t>(block + 1));
  sums.back() = static_cast<double>(p.rows);
  for (int64_t k = 0; k < chunks.count; ++k)
    for (int64_t i = 0; i < block; ++i)
      sums[static_cast<size_t>(i)] += part[static_cast<size_t>(k * block + i)];
  bool wanted = false;
  for (int b = 0; b < B; ++b) {
    const auto& br = p.branch[static_cast<size_t>(b)];
    wanted |= br.dx != nullptr;
    for (int64_t c = 0; c < channels; ++c) {
      const double gx = sums[static_cast<size_t>((b + 1) * channels + c)];
      br.dgamma[c] = static_cast<float>(gx * br.inv_std[c]);
      br.dbeta[c] = static_cast<float>(sums[static_cast<size_t>(c)]);
    }
  }
  if (!wanted) return;
  if (p.training && p.across)
    p.across->sum(sums.data(), std::ssize(sums), DType::kF64, Device::kCpu);
  std::array<InputGradient, B> in;
  const double n = sums.back();
  for (int b = 0; b < B; ++b) {
    const auto& br = p.branch[static_cast<size_t>(b)];
    InputGradient& to = in[static_cast<size_t>(b)];
    to.slope.assign(static_cast<size_t>(channels), 0.0f);
    to.offset.assign(static_cast<size_t>(channels), 0.0f);
    if (!p.training) continue;
    for (int64_t c = 0; c < channels; ++c) {
      const double g = sums[static_cast<size_t>(c)];
      const double gx = sums[static_cast<size_t>((b + 1) * channels + c)];
      const double inv_std = br.inv_std[c];
      const double scale = br.gamma[c] * inv_std;
      to.slope[static_cast<size_t>(c)] = static_cast<float>(-scale * inv_std * inv_std * gx / n);
      to.offset[static_cast<size_t>(c)] = static_cast<float>(-scale * g / n);
    }
  }
  parallel_for(p.rows, row_grain(channels), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for_channel_blocks(
          channels, [&](int64_t c) { write_gradients<A, B, Vec>(p, a, in, r * channels, c); },
          [&](int64_t c) { write_gradients<A, B, float>(p, a, in, r * channels, c); });
  });
}

template <class F>
void dispatch_branches(int branches, F&& f) {
  if (branches == 1)
    f(std::integral_constant<int, 1>{});
  else if (branches == 2)
    f(std::integral_constant<int, 2>{});
  else
    f(std::integral_constant<int, 3>{});
}

}  // namespace

void rep_bn_act_forward(const RepBnActForward& p) {
  check_f32("rep_bn_act_forward", p.dtype);
  if (p.training)
    batch_statistics(p);
  else if (p.branch[0].mean)
    for (int b = 0; b < p.branches; ++b) keep_running_statistics(p, b);
  const Affine a = fold(
      p.branch, p.branches, p.channels,
      [&](const auto& br, size_t c) { return p.training ? br.mean[c] : br.running_mean[c]; },
      [&](const auto& br, size_t c) {
        return p.training ? double{br.inv_std[c]}
                          : 1.0 / std::sqrt(static_cast<double>(br.running_var[c]) + p.eps);
      });
  dispatch_activation(p.activation, [&](auto act) {
    dispatch_branches(p.branches, [&](auto b) { apply<decltype(act)::value, b()>(p, a); });
  });
}

void rep_bn_act_backward(const RepBnActBackward& p) {
  check_f32("rep_bn_act_backward", p.dtype);
  dispatch_activation(p.activation, [&](auto act) {
    dispatch_branches(p.branches, [&](auto b) { backward<decltype(act)::value, b()>(p); });
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
