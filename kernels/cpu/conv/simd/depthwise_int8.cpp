// SPDX-License-Identifier: Apache-2.0
// Depthwise convolutions in int8: one input and one output channel to each group, so that channels
// lie in vectors throughout. Sums of up to kh kw products of bytes, in 32 bits, to which VNNI adds
// nothing.
#include <algorithm>

#include "kernels/cpu/conv/cuts.h"
#include "kernels/cpu/conv/scratch.h"
#include "kernels/cpu/conv/simd/per_isa.h"
#include "kernels/cpu/conv/simd_int8/finish_int8.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

constexpr int kPixels = 4;  // of a tile

int64_t whole_vectors(int64_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

// A row of output pixels: `lines` are the first that it reads, their pixels `channels` apart.
struct Row {
  const Window& win;
  const Int8Operands& p;
  const int32_t* weights;  // [taps, channels]
  const void* lines;
  int64_t line, channels;

  template <class F, class Y, class X, int P>
  SEXTANT_SIMD_INLINE void tile(const F& finish, Int8Target t, int64_t x, int64_t c) const {
    const int64_t count = win.ic - c, step = win.stride * channels;
    VecI acc[P] = {};
    const int32_t* w = weights + c;
    for (int64_t ky = 0; ky < win.kh; ++ky) {
      const X* from = static_cast<const X*>(lines) + ky * line + x * step + c;
      for (int64_t kx = 0; kx < win.kw; ++kx, from += channels, w += channels) {
        const VecI weight = load_ints(w);
#pragma GCC unroll 4
        for (int i = 0; i < P; ++i) acc[i] += weight * load_bytes(from + i * step);
      }
    }
    const ChannelScales scales(p, c, count);
    for (int i = 0; i < P; ++i) {
      const Y* residual = static_cast<const Y*>(p.residual ? p.residual : p.y) + t.residual + c;
      finish(acc[i], scales, residual, static_cast<Y*>(p.y) + t.y + c, count);
      t.y += p.y_at.pixel;
      t.residual += p.residual_at.pixel;
    }
  }

  template <class F, class Y, class X>
  void run(int64_t n, int64_t y) const {
    const F finish(p, p.residual != nullptr);
    int64_t x = 0;
    for (; x + kPixels <= win.ow; x += kPixels)
      for (int64_t c = 0; c < win.ic; c += kLanes)
        tile<F, Y, X, kPixels>(finish, Int8Target(p, n, y, x, 0), x, c);
    for (; x < win.ow; ++x)
      for (int64_t c = 0; c < win.ic; c += kLanes)
        tile<F, Y, X, 1>(finish, Int8Target(p, n, y, x, 0), x, c);
  }
};

using RunRow = void (*)(const Row& row, int64_t n, int64_t y);
template <class F, class Y>
void run_row(const Row& row, int64_t n, int64_t y) {
  if (row.p.x_type == DType::kI8)
    row.run<F, Y, int8_t>(n, y);
  else
    row.run<F, Y, uint8_t>(n, y);
}
template <class F, class Y>
struct RunRowFor {
  static constexpr RunRow value = run_row<F, Y>;
};

struct BandJobs {
  const Window& win;
  const Int8Operands& p;
  const int32_t* weights;
  const BandCut& cut;
  RunRow run_row;

  void operator()(int64_t job) const {
    const int64_t n = cut.image(job), channels = whole_vectors(win.ic);
    const int64_t line = ((win.ow - 1) * win.stride + win.kw) * channels;
    const Share rows = cut.rows(job);
    const int64_t lines = (rows.size() - 1) * win.stride + win.kh;
    auto* const copied = job_scratch_of<uint8_t>(lines * line);
    std::fill_n(copied, lines * line, uint8_t{0});
    for (int64_t i = 0; i < lines; ++i)
      copy_line(n, rows.begin * win.stride - win.top + i, copied + i * line, line);
    for (int64_t y = rows.begin; y < rows.end; ++y)
      run_row({win, p, weights, copied + (y - rows.begin) * win.stride * line, line, channels}, n,
              y);
  }

  void copy_line(int64_t n, int64_t y, uint8_t* to, int64_t line) const {
    if (y < 0 || y >= win.h) return;
    const int64_t channels = whole_vectors(win.ic);
    const int64_t pixels = std::min(win.w, line / channels - win.left);
    const auto* from = static_cast<const uint8_t*>(p.x) + p.x_at.at(n, y, 0);
    for (int64_t i = 0; i < pixels; ++i)
      std::copy_n(from + i * p.x_at.pixel, win.ic, to + (win.left + i) * channels);
  }
};

class DepthwiseInt8 : public Int8Conv {
 public:
  DepthwiseInt8(const Window& window, const int8_t* w)
      : win_(window), weights_(window.kh * window.kw * whole_vectors(window.ic)) {
    const int64_t taps = window.kh * window.kw, channels = whole_vectors(window.ic);
    std::fill_n(weights_.data(), weights_.count(), 0);
    for (int64_t c = 0; c < window.ic; ++c)
      for (int64_t tap = 0; tap < taps; ++tap)
        weights_.data()[tap * channels + c] = w[c * taps + tap];
  }

  void run(const Int8Operands& p) const override {
    const BandCut cut(win_, ((win_.ow - 1) * win_.stride + win_.kw) * whole_vectors(win_.ic), 1);
    parallel_jobs(cut.jobs, BandJobs{win_, p, weights_.data(), cut, ForFinish<RunRowFor>::of(p)});
  }
  int64_t weight_bytes() const override { return weights_.bytes(); }

 private:
  Window win_;
  Aligned<int32_t> weights_;
};

}  // namespace

std::unique_ptr<Int8Conv> make_depthwise_int8(const Window& window, const int8_t* w) {
  return std::make_unique<DepthwiseInt8>(window, w);
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
