// SPDX-License-Identifier: Apache-2.0
// Sums are in double: the loops are bound by memory, so that it costs little, and f32 sums would
// matter. A deep network in training mode amplifies an error of 1e-6 in a variance to 1e-2 in a
// gradient.
#include "kernels/cpu/f32_only.h"
#include "kernels/cpu/rep_bn_act_rows.h"
#include "kernels/cpu/simd/choose.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

using HalfVec = float __attribute__((vector_size(2 * kLanes)));
using HalfVecD = double __attribute__((vector_size(4 * kLanes)));

// The values of a Vec in double.
struct VecD {
  HalfVecD low, high;

  SEXTANT_SIMD_INLINE void add(const VecD& o) {
    low += o.low;
    high += o.high;
  }
  SEXTANT_SIMD_INLINE void add_square(const VecD& o) {
    low += o.low * o.low;
    high += o.high * o.high;
  }
};
SEXTANT_SIMD_INLINE VecD widen(Vec v) {
#if defined(SEXTANT_SIMD_512)
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(v)),
          _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))};
#elif defined(SEXTANT_SIMD_256)
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))};
#else
  HalfVec half[2];
  std::memcpy(half, &v, sizeof(v));
  return {__builtin_convertvector(half[0], HalfVecD), __builtin_convertvector(half[1], HalfVecD)};
#endif
}
SEXTANT_SIMD_INLINE void store_sums(double* to, const VecD& v, int64_t count) {
  if (count >= kLanes) {
    std::memcpy(to, &v, sizeof(v));
    return;
  }
  double values[kLanes];
  std::memcpy(values, &v, sizeof(v));
  for (int64_t i = 0; i < count; ++i) to[i] = values[i];
}

// How many vectors of channels are summed at once, in registers: as wide as they allow, so that
// memory is read in long runs.
#if defined(SEXTANT_SIMD_512)
constexpr int kMomentVecs = 4, kGradientVecs = 2;
#elif defined(SEXTANT_SIMD_256)
constexpr int kMomentVecs = 2, kGradientVecs = 1;
#else
constexpr int kMomentVecs = 4, kGradientVecs = 2;
#endif

// Calls work.run<V>(c, count of channels) for blocks of V whole vectors of channels from c on, then
// for single ones, the last of which may have fewer channels.
template <int V, class Work>
SEXTANT_SIMD_INLINE void each_block(int64_t channels, const Work& work) {
  int64_t c = 0;
  for (; c + V * kLanes <= channels; c += V * kLanes) work.template run<V>(c, V * kLanes);
  if constexpr (V > 1)
    for (; c + kLanes <= channels; c += kLanes) work.template run<1>(c, kLanes);
  if (c < channels) work.template run<1>(c, channels - c);
}

struct Moments {
  const float* x;
  int64_t channels;
  Rows rows;
  double* sums;
  double* squares;

  template <int V>
  SEXTANT_SIMD_INLINE void run(int64_t c, int64_t count) const {
    VecD s[V] = {}, q[V] = {};
    const float* from = x + rows.begin * channels + c;
    for (int64_t r = rows.begin; r < rows.end; ++r, from += channels) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const VecD d = widen(load_part(from + v * kLanes, count));
        s[v].add(d);
        q[v].add_square(d);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      store_sums(sums + c + v * kLanes, s[v], count);
      store_sums(squares + c + v * kLanes, q[v], count);
    }
  }
};

// The pre-activation of B branches at `count` channels from c on of the row at `row`; leaves
// x_b - mean_b in `centred`.
template <int B, class Branches>
SEXTANT_SIMD_INLINE Vec pre_activation(const FoldedNorms& norms, const Branches& branch,
                                       int64_t row, int64_t c, int64_t count, Vec (&centred)[B]) {
  Vec pre = load_part(norms.shift + c, count);
#pragma GCC unroll 3
  for (size_t b = 0; b < B; ++b) {
    centred[b] = load_part(f32(branch[b].x) + row + c, count) - load_part(norms.mean[b] + c, count);
    pre += load_part(norms.scale[b] + c, count) * centred[b];
  }
  return pre;
}

template <Activation A, int B>
struct Apply {
  const RepBnActForward& p;
  const FoldedNorms& norms;
  int64_t row;

  template <int V>
  SEXTANT_SIMD_INLINE void run(int64_t c, int64_t count) const {
    Vec centred[B];
    const Vec pre = pre_activation<B>(norms, p.branch, row, c, count, centred);
    store_part(f32(p.y) + row + c, activate<A>(pre), count);
  }
};
template <Activation A, int B>
void apply(const RepBnActForward& p, const FoldedNorms& norms, Rows rows) {
  for (int64_t r = rows.begin; r < rows.end; ++r)
    each_block<1>(p.channels, Apply<A, B>{p, norms, r * p.channels});
}

template <Activation A, int B>
struct GradientSums {
  const RepBnActBackward& p;
  const FoldedNorms& norms;
  Rows rows;
  double* sums;

  template <int V>
  SEXTANT_SIMD_INLINE void run(int64_t c, int64_t count) const {
    VecD acc[B + 1][V] = {};
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t row = r * p.channels;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const int64_t at = c + v * kLanes;
        Vec centred[B];
        const Vec pre = pre_activation<B>(norms, p.branch, row, at, count, centred);
        const Vec g = load_part(f32(p.dy) + row + at, count) * activate_grad<A>(pre);
        acc[0][v].add(widen(g));
#pragma GCC unroll 3
        for (int b = 0; b < B; ++b) acc[b + 1][v].add(widen(g * centred[b]));
      }
    }
#pragma GCC unroll 4
    for (int b = 0; b <= B; ++b)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        store_sums(sums + b * p.channels + c + v * kLanes, acc[b][v], count);
  }
};
template <Activation A, int B>
void gradient_sums(const RepBnActBackward& p, const FoldedNorms& norms, Rows rows, double* sums) {
  each_block<kGradientVecs>(p.channels, GradientSums<A, B>{p, norms, rows, sums});
}

template <Activation A, int B>
struct InputGradients {
  const RepBnActBackward& p;
  const FoldedNorms& norms;
  const InputSlopes& in;
  int64_t row;

  template <int V>
  SEXTANT_SIMD_INLINE void run(int64_t c, int64_t count) const {
    Vec centred[B];
    const Vec pre = pre_activation<B>(norms, p.branch, row, c, count, centred);
    const Vec g = load_part(f32(p.dy) + row + c, count) * activate_grad<A>(pre);
#pragma GCC unroll 3
    for (size_t b = 0; b < B; ++b) {
      if (!p.branch[b].dx) continue;
      const Vec dx = load_part(norms.scale[b] + c, count) * g +
                     load_part(in.slope[b] + c, count) * centred[b] +
                     load_part(in.offset[b] + c, count);
      store_part(f32(p.branch[b].dx) + row + c, dx, count);
    }
  }
};
template <Activation A, int B>
void input_gradients(const RepBnActBackward& p, const FoldedNorms& norms, const InputSlopes& in,
                     Rows rows) {
  for (int64_t r = rows.begin; r < rows.end; ++r)
    each_block<1>(p.channels, InputGradients<A, B>{p, norms, in, r * p.channels});
}

// Functions by the activation and the number of branches.
template <Activation A>
struct ApplyFor {
  static constexpr std::array value = {apply<A, 1>, apply<A, 2>, apply<A, 3>};
};
template <Activation A>
struct GradientSumsFor {
  static constexpr std::array value = {gradient_sums<A, 1>, gradient_sums<A, 2>,
                                       gradient_sums<A, 3>};
};
template <Activation A>
struct InputGradientsFor {
  static constexpr std::array value = {input_gradients<A, 1>, input_gradients<A, 2>,
                                       input_gradients<A, 3>};
};
size_t index_of(int branches) { return static_cast<size_t>(branches - 1); }

}  // namespace

void bn_moments(const RepBnActForward& p, Rows rows, double* sums) {
  for (size_t b = 0; b <= index_of(p.branches); ++b, sums += 2 * p.channels)
    each_block<kMomentVecs>(p.channels,
                            Moments{f32(p.branch[b].x), p.channels, rows, sums, sums + p.channels});
}

void bn_apply(const RepBnActForward& p, const FoldedNorms& norms, Rows rows) {
  choose<ApplyFor>(p.activation)[index_of(p.branches)](p, norms, rows);
}

void bn_gradient_sums(const RepBnActBackward& p, const FoldedNorms& norms, Rows rows,
                      double* sums) {
  choose<GradientSumsFor>(p.activation)[index_of(p.branches)](p, norms, rows, sums);
}

void bn_input_gradients(const RepBnActBackward& p, const FoldedNorms& norms, const InputSlopes& in,
                        Rows rows) {
  choose<InputGradientsFor>(p.activation)[index_of(p.branches)](p, norms, in, rows);
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
