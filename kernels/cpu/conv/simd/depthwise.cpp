// SPDX-License-Identifier: Apache-2.0
// Depthwise convolutions in f32: one input and one output channel to each group, so that channels lie
// in vectors throughout, and their weight gradients.
#include <algorithm>

#include "kernels/cpu/conv/gradient_cut.h"
#include "kernels/cpu/conv/lines.h"
#include "kernels/cpu/conv/scratch.h"
#include "kernels/cpu/conv/simd/finish.h"
#include "kernels/cpu/conv/simd/per_isa.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

constexpr int kPixels = 6;  // of a tile: enough sums to hide a multiply-add's latency

// [taps, channels]
Aligned<float> pack(const Window& win, const WeightView& w) {
  Aligned<float> packed(win.kh * win.kw * win.ic + kLanes);
  std::fill_n(packed.data(), packed.count(), 0.0f);
  float* to = packed.data();
  for (int64_t ky = 0; ky < win.kh; ++ky)
    for (int64_t kx = 0; kx < win.kw; ++kx)
      for (int64_t c = 0; c < win.ic; ++c) *to++ = w.at(c, ky, kx, 0);
  return packed;
}

struct Row {
  const Window& win;
  const F32Operands& p;
  const float* weights;
  const float* lines;  // the first that the row reads
  int64_t line;

  // P pixels from column x on, channels from c on.
  template <Activation A, int P>
  SEXTANT_SIMD_INLINE void tile(FinishTarget t, int64_t x, int64_t c) const {
    const int64_t count = win.ic - c, step = win.stride * win.ic;
    const FinishVec<A> finish(p);
    const Vec bias = p.bias ? load_part(p.bias + c, count) : Vec{};
    const Vec gain = finish.gain_of(p, c, count);
    Vec acc[P];
#pragma GCC unroll 6
    for (int i = 0; i < P; ++i) acc[i] = bias;
    const float* w = weights + c;
    for (int64_t ky = 0; ky < win.kh; ++ky) {
      const float* from = lines + ky * line + x * step + c;
      for (int64_t kx = 0; kx < win.kw; ++kx, from += win.ic, w += win.ic) {
        const Vec weight = load(w);
#pragma GCC unroll 6
        for (int i = 0; i < P; ++i) acc[i] += weight * load(from + i * step);
      }
    }
#pragma GCC unroll 6
    for (int i = 0; i < P; ++i) {
      store_part(t.y + c, finish(acc[i], t.residual + c, gain, count), count);
      t.y += t.pixel;
      t.residual += t.residual_pixel;
    }
  }
};

using RunRow = void (*)(const Row& row, int64_t n, int64_t y);
template <Activation A>
void run_row(const Row& row, int64_t n, int64_t y) {
  const Window& w = row.win;
  int64_t x = 0;
  for (; x + kPixels <= w.ow; x += kPixels)
    for (int64_t c = 0; c < w.ic; c += kLanes)
      row.tile<A, kPixels>(FinishTarget(row.p, n, y, x, 0), x, c);
  for (; x < w.ow; ++x)
    for (int64_t c = 0; c < w.ic; c += kLanes)
      row.tile<A, 1>(FinishTarget(row.p, n, y, x, 0), x, c);
}
template <Activation A>
struct RunRowFor {
  static constexpr RunRow value = run_row<A>;
};

struct BandJobs {
  const Window& win;
  const F32Operands& p;
  const float* weights;
  const BandCut& cut;
  RunRow run_row;

  void operator()(int64_t job) const {
    const int64_t n = cut.image(job), line = line_values(win);
    const Share rows = cut.rows(job);
    const int64_t lines = (rows.size() - 1) * win.stride + win.kh;
    // The last vector of channels may end behind the last line.
    float* const copied = job_scratch_of<float>(lines * line + kLanes);
    std::fill_n(copied + lines * line, kLanes, 0.0f);
    for (int64_t i = 0; i < lines; ++i)
      copy_line(win, p.x, n, rows.begin * win.stride - win.top + i, copied + i * line);
    for (int64_t y = rows.begin; y < rows.end; ++y)
      run_row({win, p, weights, copied + (y - rows.begin) * win.stride * line, line}, n, y);
  }
};

class Depthwise : public F32Conv {
 public:
  Depthwise(const Window& window, const WeightView& w) : win_(window), weights_(pack(window, w)) {}

  void run(const F32Operands& p) const override {
    const BandCut cut(win_, line_values(win_) * 4, 1);
    parallel_jobs(cut.jobs, BandJobs{win_, p, weights_.data(), cut,
                                     choose<RunRowFor>(p.epilogue.activation)});
  }
  int64_t weight_bytes() const override { return weights_.bytes(); }

 private:
  Window win_;
  Aligned<float> weights_;
};

// Of each piece, one row of dy: its share of dw, [taps, channels], is added to the group's.
struct GradientJobs {
  const Window& win;
  const GradientCut& cut;
  const F32Gradient& p;
  float* sums;
  int64_t channels;  // in whole vectors

  void operator()(int64_t group) const {
    float* const to = sums + group * win.kh * win.kw * channels;
    std::fill_n(to, win.kh * win.kw * channels, 0.0f);
    const Share pieces = cut.pieces_of(group);
    float* const line = job_scratch_of<float>(line_values(win) + kLanes);
    std::fill_n(line + line_values(win), kLanes, 0.0f);
    for (int64_t piece = pieces.begin; piece < pieces.end; ++piece) {
      const int64_t n = piece / win.oh, y = piece % win.oh;
      for (int64_t ky = 0; ky < win.kh; ++ky) {
        copy_line(win, p.x, n, y * win.stride - win.top + ky, line);
        for (int64_t kx = 0; kx < win.kw; ++kx)
          for (int64_t c = 0; c < win.ic; c += kLanes)
            add_row(line + kx * win.ic + c, p.dy.at(n, y, 0) + c,
                    to + (ky * win.kw + kx) * channels + c, win.ic - c);
      }
    }
  }

  // Four sums, so that one does not wait for the other.
  void add_row(const float* x, const float* dy, float* sum, int64_t count) const {
    const int64_t step = win.stride * win.ic;
    Vec acc[4] = {};
    int64_t i = 0;
    for (; i + 4 <= win.ow; i += 4)
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k)
        acc[k] += load(x + (i + k) * step) * load_part(dy + (i + k) * p.dy.pixel, count);
    for (; i < win.ow; ++i) acc[0] += load(x + i * step) * load_part(dy + i * p.dy.pixel, count);
    store(sum, load(sum) + ((acc[0] + acc[1]) + (acc[2] + acc[3])));
  }
};

}  // namespace

std::unique_ptr<F32Conv> make_depthwise(const Window& window, const WeightView& w) {
  return std::make_unique<Depthwise>(window, w);
}

void depthwise_weight_gradient(const Window& win, const F32Gradient& p) {
  const int64_t channels = (win.ic + kLanes - 1) / kLanes * kLanes;
  const int64_t taps = win.kh * win.kw;
  const GradientCut cut(win.n * win.oh, taps * channels * 4, 1, 1);
  float* const sums = shared_scratch_of<float>(cut.groups * taps * channels);
  parallel_jobs(cut.groups, GradientJobs{win, cut, p, sums, channels});
  for (int64_t ky = 0; ky < win.kh; ++ky)
    for (int64_t kx = 0; kx < win.kw; ++kx)
      for (int64_t c = 0; c < win.ic; ++c) {
        float sum = 0;
        for (int64_t g = 0; g < cut.groups; ++g)
          sum += sums[(g * taps + ky * win.kw + kx) * channels + c];
        p.dw.data[c * p.dw.o + ky * p.dw.ky + kx * p.dw.kx] = sum;
      }
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
