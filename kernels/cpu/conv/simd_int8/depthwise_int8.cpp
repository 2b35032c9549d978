// SPDX-License-Identifier: Apache-2.0
// Depthwise convolutions in int8: one input and one output channel to each group, so that channels
// lie in vectors throughout. Sums of up to kh kw products of bytes, in 32 bits.
#include <algorithm>

#include "kernels/cpu/conv/cuts.h"
#include "kernels/cpu/conv/scratch.h"
#include "kernels/cpu/conv/simd_int8/finish_int8.h"
#include "kernels/cpu/conv/simd_int8/per_isa.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

constexpr int kPixels = 4;  // of a tile

int64_t whole_vectors(int64_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

// One byte of a line to each 32-bit lane.
template <class X>
SEXTANT_SIMD_INLINE VecI load_bytes(const X* p) {
  if constexpr (std::is_signed_v<X>) {
    VecBytes v;
    std::memcpy(&v, p, sizeof(v));
    return __builtin_convertvector(v, VecI);
  } else {
    VecUBytes v;
    std::memcpy(&v, p, sizeof(v));
    return __builtin_convertvector(v, VecI);
  }
}

// A row of output pixels: `lines` are the first that it reads, their pixels `channels` apart.
struct Row {
  const Window& win;
  const Int8Operands& p;
  const int32_t* weights;  // [taps, channels]
  const void* lines;
  int64_t line, channels;
  int32_t* sums;  // [kPixels, channels], of a tile

  template <class X, int P>
  SEXTANT_SIMD_INLINE void sum_tile(int64_t x) const {
    const int64_t step = win.stride * channels;
    for (int64_t c = 0; c < channels; c += kLanes) {
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
      for (int i = 0; i < P; ++i) store_ints(sums + i * channels + c, acc[i]);
    }
  }
};

// What follows the sums of a tile, on its own: one function for each way to finish, not one for
// each type of x and size of a tile too.
using FinishTile = void (*)(const Row& row, int64_t pixels, const Int8Target& first);
template <class F, class Y>
void finish_tile(const Row& row, int64_t pixels, const Int8Target& first) {
  const Int8Operands& p = row.p;
  const F finish(p);
  auto* const y = static_cast<Y*>(p.y) + first.y;
  const auto* const residual =
      static_cast<const Y*>(p.residual ? p.residual : p.y) + first.residual;
  for (int64_t c = 0; c < row.win.ic; c += kLanes) {
    const int64_t count = row.win.ic - c;
    const ChannelScales scales(p, c, count);
    for (int64_t i = 0; i < pixels; ++i)
      finish(load_ints(row.sums + i * row.channels + c), scales.bias, scales.factor,
             residual + i * p.residual_at.pixel + c, y + i * p.y_at.pixel + c, count);
  }
}
template <class F, class Y>
struct FinishTileFor {
  static constexpr FinishTile value = finish_tile<F, Y>;
};

template <class X>
void run_row(const Row& row, FinishTile finish, int64_t n, int64_t y) {
  int64_t x = 0;
  for (; x + kPixels <= row.win.ow; x += kPixels) {
    row.sum_tile<X, kPixels>(x);
    finish(row, kPixels, Int8Target(row.p, n, y, x, 0));
  }
  for (; x < row.win.ow; ++x) {
    row.sum_tile<X, 1>(x);
    finish(row, 1, Int8Target(row.p, n, y, x, 0));
  }
}

struct BandJobs {
  const Window& win;
  const Int8Operands& p;
  const int32_t* weights;
  const BandCut& cut;
  FinishTile finish;

  void operator()(int64_t job) const {
    const int64_t n = cut.image(job), channels = whole_vectors(win.ic);
    const int64_t line = ((win.ow - 1) * win.stride + win.kw) * channels;
    const Share rows = cut.rows(job);
    const int64_t lines = (rows.size() - 1) * win.stride + win.kh;
    auto* const sums = job_scratch_of<int32_t>(kPixels * channels + (lines * line + 3) / 4);
    auto* const copied = reinterpret_cast<uint8_t*>(sums + kPixels * channels);
    std::fill_n(copied, lines * line, uint8_t{0});
    for (int64_t i = 0; i < lines; ++i)
      copy_line(n, rows.begin * win.stride - win.top + i, copied + i * line, line);
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      const uint8_t* first = copied + (y - rows.begin) * win.stride * line;
      const Row row{win, p, weights, first, line, channels, sums};
      if (p.x_type == DType::kI8)
        run_row<int8_t>(row, finish, n, y);
      else
        run_row<uint8_t>(row, finish, n, y);
    }
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
    parallel_jobs(cut.jobs,
                  BandJobs{win_, p, weights_.data(), cut, ForFinish<FinishTileFor>::of(p)});
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
