// Memory traffic, in passes over one [rows, channels] tensor for k branches: forward k (statistics)
// + k + 1, backward (k + 1) + (k + 1) + k. Nothing in between is stored.
#include "kernels/rep_bn_act.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/vec.h"

namespace sextant::kernels::cpu {
namespace {

// Rows are cut into chunks by their number alone, each chunk is summed in f32 (16 to 64 sums side
// by side), the chunks are added in order in double: the result does not depend on the threads.
struct Chunks {
  explicit Chunks(int64_t n) : rows(n), count(std::clamp<int64_t>(n / 512, 1, 256)) {}
  int64_t begin(int64_t c) const { return rows * c / count; }
  int64_t rows, count;
};

// Calls f(row range, first channel, lanes) over channel blocks; f is called with Vec-wide blocks
// where 16 channels are left, else one by one (Wide false).
template <class Wide, class Narrow>
void for_channel_blocks(int64_t channels, const Wide& wide, const Narrow& narrow) {
  int64_t c = 0;
  for (; c + kVec <= channels; c += kVec) wide(c);
  for (; c < channels; ++c) narrow(c);
}

inline void load_any(const float* p, Vec& v) { v = load(p); }
inline void load_any(const float* p, float& v) { v = *p; }
inline void store_any(double* out, const Vec& v) {
  for (int64_t i = 0; i < kVec; ++i) out[i] = v[i];
}
inline void store_any(double* out, float v) { *out = v; }

// sums[c] = sum(x - shift), squares[c] = sum((x - shift)^2) over the rows of a chunk.
template <class V>
void chunk_moments(const float* x, int64_t channels, int64_t begin, int64_t end, const float* shift,
                   double* sums, double* squares) {
  V k, s[4]{}, q[4]{};
  load_any(shift, k);
  int64_t r = begin;
  for (; r + 4 <= end; r += 4)
    for (int u = 0; u < 4; ++u) {
      V v;
      load_any(x + (r + u) * channels, v);
      v = v - k;
      s[u] += v;
      q[u] += v * v;
    }
  for (; r < end; ++r) {
    V v;
    load_any(x + r * channels, v);
    v = v - k;
    s[0] += v;
    q[0] += v * v;
  }
  store_any(sums, (s[0] + s[1]) + (s[2] + s[3]));
  store_any(squares, (q[0] + q[1]) + (q[2] + q[3]));
}

void batch_statistics(const RepBnActForward& p, int b) {
  const auto& br = p.branch[static_cast<size_t>(b)];
  const int64_t channels = p.channels;
  const Chunks chunks(p.rows);
  // Sums are taken around the first row, so that a mean far from zero does not cancel the variance.
  const float* shift = br.x;
  std::vector<double> part(static_cast<size_t>(chunks.count * channels * 2));
  parallel_for(chunks.count, 1, [&](int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k) {
      double* sums = part.data() + k * channels * 2;
      double* squares = sums + channels;
      const int64_t begin = chunks.begin(k), end = chunks.begin(k + 1);
      for_channel_blocks(
          channels,
          [&](int64_t c) {
            chunk_moments<Vec>(br.x + c, channels, begin, end, shift + c, sums + c, squares + c);
          },
          [&](int64_t c) {
            chunk_moments<float>(br.x + c, channels, begin, end, shift + c, sums + c, squares + c);
          });
    }
  });
  const auto n = static_cast<double>(p.rows);
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0, square = 0;
    for (int64_t k = 0; k < chunks.count; ++k) {
      sum += part[static_cast<size_t>(k * channels * 2 + c)];
      square += part[static_cast<size_t>(k * channels * 2 + channels + c)];
    }
    const double mean = shift[c] + sum / n;
    const double var = std::max(0.0, (square - sum * sum / n) / n);
    br.mean[c] = static_cast<float>(mean);
    br.inv_std[c] = static_cast<float>(1.0 / std::sqrt(var + p.eps));
    if (br.running_mean) {
      const double m = p.momentum;
      br.running_mean[c] = static_cast<float>((1 - m) * br.running_mean[c] + m * mean);
      br.running_var[c] = static_cast<float>((1 - m) * br.running_var[c] + m * var * n / (n - 1.0));
    }
  }
}

// y_pre = sum_b scale_b * x_b + shift
struct Affine {
  std::array<std::vector<float>, kMaxBranches> scale;
  std::vector<float> shift;
};

template <class GetMean, class GetInvStd, class Branches>
Affine fold(const Branches& branch, int branches, int64_t channels, const GetMean& mean,
            const GetInvStd& inv_std) {
  Affine a;
  a.shift.resize(static_cast<size_t>(channels));
  for (int b = 0; b < branches; ++b)
    a.scale[static_cast<size_t>(b)].resize(static_cast<size_t>(channels));
  for (int64_t c = 0; c < channels; ++c) {
    double shift = 0;
    for (int b = 0; b < branches; ++b) {
      const auto& br = branch[static_cast<size_t>(b)];
      const double s = static_cast<double>(br.gamma[c]) * inv_std(br, c);
      a.scale[static_cast<size_t>(b)][static_cast<size_t>(c)] = static_cast<float>(s);
      shift += br.beta[c] - s * mean(br, c);
    }
    a.shift[static_cast<size_t>(c)] = static_cast<float>(shift);
  }
  return a;
}

int64_t row_grain(int64_t channels) { return std::max<int64_t>(1, (1 << 14) / channels); }

template <Activation A, int B>
void apply(const RepBnActForward& p, const Affine& a) {
  const int64_t channels = p.channels;
  parallel_for(p.rows, row_grain(channels), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x[B];
      const float* s[B];
      for (int b = 0; b < B; ++b) {
        x[b] = p.branch[static_cast<size_t>(b)].x + r * channels;
        s[b] = a.scale[static_cast<size_t>(b)].data();
      }
      const float* t = a.shift.data();
      float* y = p.y + r * channels;
      for_channel_blocks(
          channels,
          [&](int64_t c) {
            Vec v = load(t + c);
            for (int b = 0; b < B; ++b) v += load(s[b] + c) * load(x[b] + c);
            store(y + c, activate<A>(v));
          },
          [&](int64_t c) {
            float v = t[c];
            for (int b = 0; b < B; ++b) v += s[b][c] * x[b][c];
            y[c] = kernels::activate<A>(v);
          });
    }
  });
}

// sums[0] = sum g, sums[1 + b] = sum g * (x_b - mean_b), with g = dy * act'(pre).
template <Activation A, int B, class V>
void chunk_gradients(const RepBnActBackward& p, const Affine& a, int64_t c, int64_t begin,
                     int64_t end, double* sums, int64_t pitch) {
  V scale[B], mean[B], shift, acc[B + 1]{};
  load_any(a.shift.data() + c, shift);
  for (int b = 0; b < B; ++b) {
    load_any(a.scale[static_cast<size_t>(b)].data() + c, scale[b]);
    load_any(p.branch[static_cast<size_t>(b)].mean + c, mean[b]);
  }
  for (int64_t r = begin; r < end; ++r) {
    V x[B], pre = shift, g;
    for (int b = 0; b < B; ++b) {
      load_any(p.branch[static_cast<size_t>(b)].x + r * p.channels + c, x[b]);
      pre += scale[b] * x[b];
    }
    load_any(p.dy + r * p.channels + c, g);
    if constexpr (std::is_same_v<V, Vec>)
      g = g * activate_grad<A>(pre);
    else
      g = g * kernels::activate_grad<A>(pre);
    acc[0] += g;
    for (int b = 0; b < B; ++b) acc[b + 1] += g * (x[b] - mean[b]);
  }
  for (int b = 0; b <= B; ++b) store_any(sums + b * pitch, acc[b]);
}

template <Activation A, int B>
void backward(const RepBnActBackward& p) {
  const int64_t channels = p.channels;
  const Affine a = fold(
      p.branch, B, channels, [](const auto& br, int64_t c) { return double{br.mean[c]}; },
      [](const auto& br, int64_t c) { return double{br.inv_std[c]}; });
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
  // dx_b = scale_b * (g - mean(g) - (x_b - mean_b) * inv_std_b^2 * mean(g (x_b - mean_b)))
  //      = scale_b * g + slope_b * x_b + offset_b
  std::array<std::vector<float>, B> slope, offset;
  const auto n = static_cast<double>(p.rows);
  for (int b = 0; b < B; ++b) {
    const auto& br = p.branch[static_cast<size_t>(b)];
    auto& sl = slope[static_cast<size_t>(b)];
    auto& of = offset[static_cast<size_t>(b)];
    sl.assign(static_cast<size_t>(channels), 0.0f);
    of.assign(static_cast<size_t>(channels), 0.0f);
    for (int64_t c = 0; c < channels; ++c) {
      double g = 0, gx = 0;
      for (int64_t k = 0; k < chunks.count; ++k) {
        g += part[static_cast<size_t>(k * block + c)];
        gx += part[static_cast<size_t>(k * block + (b + 1) * channels + c)];
      }
      const double inv_std = br.inv_std[c];
      br.dgamma[c] = static_cast<float>(gx * inv_std);
      br.dbeta[c] = static_cast<float>(g);
      if (!p.training) continue;
      const double scale = static_cast<double>(br.gamma[c]) * inv_std;
      const double k = -scale * inv_std * inv_std * gx / n;
      sl[static_cast<size_t>(c)] = static_cast<float>(k);
      of[static_cast<size_t>(c)] = static_cast<float>(-scale * g / n - k * br.mean[c]);
    }
  }
  bool wanted = false;
  for (int b = 0; b < B; ++b) wanted |= p.branch[static_cast<size_t>(b)].dx != nullptr;
  if (!wanted) return;
  parallel_for(p.rows, row_grain(channels), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t row = r * channels;
      for_channel_blocks(
          channels,
          [&](int64_t c) {
            Vec x[B], pre = load(a.shift.data() + c);
            for (int b = 0; b < B; ++b) {
              x[b] = load(p.branch[static_cast<size_t>(b)].x + row + c);
              pre += load(a.scale[static_cast<size_t>(b)].data() + c) * x[b];
            }
            const Vec g = load(p.dy + row + c) * activate_grad<A>(pre);
            for (int b = 0; b < B; ++b) {
              const auto i = static_cast<size_t>(b);
              if (!p.branch[i].dx) continue;
              store(p.branch[i].dx + row + c, load(a.scale[i].data() + c) * g +
                                                  load(slope[i].data() + c) * x[b] +
                                                  load(offset[i].data() + c));
            }
          },
          [&](int64_t c) {
            const auto ci = static_cast<size_t>(c);
            float x[B], pre = a.shift[ci];
            for (int b = 0; b < B; ++b) {
              x[b] = p.branch[static_cast<size_t>(b)].x[row + c];
              pre += a.scale[static_cast<size_t>(b)][ci] * x[b];
            }
            const float g = p.dy[row + c] * kernels::activate_grad<A>(pre);
            for (int b = 0; b < B; ++b) {
              const auto i = static_cast<size_t>(b);
              if (p.branch[i].dx)
                p.branch[i].dx[row + c] = a.scale[i][ci] * g + slope[i][ci] * x[b] + offset[i][ci];
            }
          });
    }
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
  if (p.training)
    for (int b = 0; b < p.branches; ++b) batch_statistics(p, b);
  const Affine a = fold(
      p.branch, p.branches, p.channels,
      [&](const auto& br, int64_t c) {
        return double{p.training ? br.mean[c] : br.running_mean[c]};
      },
      [&](const auto& br, int64_t c) {
        return p.training ? double{br.inv_std[c]}
                          : 1.0 / std::sqrt(static_cast<double>(br.running_var[c]) + p.eps);
      });
  dispatch_activation(p.act, [&](auto act) {
    dispatch_branches(p.branches, [&](auto b) { apply<decltype(act)::value, b()>(p, a); });
  });
}

void rep_bn_act_backward(const RepBnActBackward& p) {
  dispatch_activation(p.act, [&](auto act) {
    dispatch_branches(p.branches, [&](auto b) { backward<decltype(act)::value, b()>(p); });
  });
}

}  // namespace sextant::kernels::cpu
