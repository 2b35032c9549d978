// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of stride 1 in int8 by F(m x m, 3x3) in integers, exactly (points_int8.h,
// winograd_jobs.h).
#include <algorithm>

#include "kernels/cpu/conv/cuts.h"
#include "kernels/cpu/conv/simd/winograd_jobs.h"
#include "kernels/cpu/conv/simd_int8/finish_int8.h"
#include "kernels/cpu/conv/simd_int8/per_isa.h"
#include "kernels/cpu/conv/simd_int8/points_int8.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

constexpr int64_t kWide = 2 * kLanes;  // 16-bit integers of a register

int64_t pairs_of(int64_t channels) { return (channels + 1) / 2; }

// Weights of some pairs of input channels of a block, transformed: [blocks, positions, pairs of ic,
// lanes of the block, 2].
template <class F>
struct PackPairJobs {
  static constexpr int64_t kPositions = F::kIn * F::kIn;
  static constexpr int64_t kPairs = 8;  // gathered at once

  PackPairJobs(const Window& window, const int8_t* weights, int32_t* to)
      : win(window), w(weights), packed(to), pairs(pairs_of(win.ic)) {
    const int64_t blocks = block_count(win.oc);
    shares = parts_for(blocks, std::max<int64_t>(1, pairs / 16));
    jobs = blocks * shares;
  }

  void operator()(int64_t job) const {
    const Block block = block_at(win.oc, job / shares);
    const Share share(pairs, job % shares, shares);
    int32_t* const to = packed + job / shares * kPositions * pairs * kBlock;
    for (int64_t o = 0; o < block.width(); o += kLanes)
      for (int64_t i = share.begin; i < share.end; i += kPairs) {
        alignas(64) int16_t taps[kPairs][9][kWide];
        const int64_t count = std::min<int64_t>(kPairs, share.end - i);
        gather(block, o, i, count, taps);
        for (int64_t k = 0; k < count; ++k)
          transform(taps[k], to + (i + k) * block.width() + o, pairs * block.width());
      }
  }

  void gather(Block block, int64_t o, int64_t i, int64_t count,
              int16_t (&taps)[kPairs][9][kWide]) const {
    const int64_t there = std::min<int64_t>(kLanes, block.channels - o);
    const int64_t channels = std::min<int64_t>(2 * count, win.ic - 2 * i);
    // What is not there counts as 0: lanes past the channels, the second of an odd channel.
    if (there < kLanes || channels < 2 * count) std::memset(taps, 0, sizeof(taps));
    for (int64_t l = 0; l < there; ++l)
      for (int64_t tap = 0; tap < 9; ++tap) {
        const int8_t* const from = w + ((block.first + o + l) * 9 + tap) * win.ic + 2 * i;
        for (int64_t c = 0; c < channels; ++c) taps[c / 2][tap][2 * l + c % 2] = from[c];
      }
  }

  static void transform(const int16_t (&taps)[9][kWide], int32_t* to, int64_t position) {
    VecS half[3][F::kIn];  // of each kernel row
    for (int64_t ky = 0; ky < 3; ++ky) {
      VecS g[3];
      std::memcpy(g, taps[3 * ky], sizeof(g));
      F::weight(g, half[ky]);
    }
    for (int64_t x = 0; x < F::kIn; ++x) {
      const VecS g[3] = {half[0][x], half[1][x], half[2][x]};
      VecS u[F::kIn];
      F::weight(g, u);
      for (int64_t y = 0; y < F::kIn; ++y)
        std::memcpy(to + (y * F::kIn + x) * position, &u[y], sizeof(VecS));
    }
  }

  const Window& win;
  const int8_t* w;
  int32_t* packed;
  int64_t pairs, shares, jobs;
};

template <class F>
Aligned<int32_t> pack(const Window& win, const int8_t* w) {
  Aligned<int32_t> packed(F::kIn * F::kIn * pairs_of(win.ic) *
                          width_before(win.oc, block_count(win.oc)));
  const PackPairJobs<F> work(win, w, packed.data());
  parallel_jobs(work.jobs, work);
  return packed;
}

using WideBytes = int8_t __attribute__((vector_size(kWide)));
using WideUBytes = uint8_t __attribute__((vector_size(kWide)));

SEXTANT_SIMD_INLINE VecS load_words(const int8_t* p) {
  WideBytes bytes;
  std::memcpy(&bytes, p, sizeof(bytes));
  return __builtin_convertvector(bytes, VecS);
}
SEXTANT_SIMD_INLINE VecS load_words(const uint8_t* p) {
  WideUBytes bytes;
  std::memcpy(&bytes, p, sizeof(bytes));
  return __builtin_convertvector(bytes, VecS);
}

// One tile's pixels at x -> [positions] `position` apart, `channels` each.
template <class F, class X>
void transform_input(const X* x, int64_t row, int64_t pixel, int64_t channels, int16_t* to,
                     int64_t position) {
  for (int64_t c = 0; c < channels; c += kWide) {
    VecS half[F::kIn][F::kIn];
#pragma GCC unroll 6
    for (int j = 0; j < F::kIn; ++j) {
      VecS d[F::kIn], t[F::kIn];
#pragma GCC unroll 6
      for (int i = 0; i < F::kIn; ++i) d[i] = load_words(x + i * row + j * pixel + c);
      F::input(d, t);
#pragma GCC unroll 6
      for (int i = 0; i < F::kIn; ++i) half[i][j] = t[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < F::kIn; ++i) {
      VecS t[F::kIn];
      F::input(half[i], t);
#pragma GCC unroll 6
      for (int j = 0; j < F::kIn; ++j)
        std::memcpy(to + (i * F::kIn + j) * position + c, &t[j], sizeof(VecS));
    }
  }
}

// Products of one tile and block, positions `position` apart, to sums [kOut, kOut, lanes of the block].
template <class F>
void transform_output(const int32_t* from, int64_t position, int64_t width, int32_t* sums) {
  for (int64_t c = 0; c < width; c += kLanes) {
    VecU half[F::kOut][F::kIn];
#pragma GCC unroll 6
    for (int j = 0; j < F::kIn; ++j) {
      VecU m[F::kIn], y[F::kOut];
#pragma GCC unroll 6
      for (int i = 0; i < F::kIn; ++i)
        m[i] = reinterpret_cast<VecU>(load_ints(from + (i * F::kIn + j) * position + c));
      F::output(m, y);
#pragma GCC unroll 4
      for (int i = 0; i < F::kOut; ++i) half[i][j] = y[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < F::kOut; ++i) {
      VecU y[F::kOut];
      F::output(half[i], y);
#pragma GCC unroll 4
      for (int j = 0; j < F::kOut; ++j)
        store_ints(sums + (i * F::kOut + j) * width + c,
                   reinterpret_cast<VecI>(y[j] * F::kInverse) >> (F::kShift[i] + F::kShift[j]));
    }
  }
}

template <class F>
struct Int8Work {
  using Input = int16_t;
  using Product = int32_t;
  using Buffers = TileBuffers<Int8Work>;
  static constexpr int64_t kPositions = F::kIn * F::kIn;

  const Window& win;
  const TileGrid& grid;
  const Int8Operands& p;
  const int32_t* weights;
  Finish finish;

  const TileGrid& tiles() const { return grid; }
  int64_t blocks() const { return block_count(win.oc); }
  int64_t channels() const { return (win.ic + kWide - 1) / kWide * kWide; }

  void input(const Buffers& b, int64_t index, int64_t t, int16_t* patch) const {
    if (p.x_type == DType::kI8)
      input_as<int8_t>(b, index, t, reinterpret_cast<int8_t*>(patch));
    else
      input_as<uint8_t>(b, index, t, reinterpret_cast<uint8_t*>(patch));
  }
  template <class X>
  void input_as(const Buffers& b, int64_t index, int64_t t, X* patch) const {
    const X* const x = static_cast<const X*>(p.x);
    const int64_t n = grid.image(index);
    const int64_t top = grid.row(index) - win.top, left = grid.column(index) - win.left;
    int16_t* const to = b.input + t * channels();
    const bool inside = top >= 0 && left >= 0 && top + F::kIn <= win.h && left + F::kIn <= win.w;
    if (inside && channels() == win.ic) {
      transform_input<F>(x + p.x_at.at(n, top, left), p.x_at.row, p.x_at.pixel, win.ic, to,
                         b.input_position);
      return;
    }
    for (int64_t i = 0; i < F::kIn; ++i)
      for (int64_t j = 0; j < F::kIn; ++j) {
        X* const pixel = patch + (i * F::kIn + j) * channels();
        const int64_t row = top + i, column = left + j;
        const bool there = row >= 0 && row < win.h && column >= 0 && column < win.w;
        if (there) std::copy_n(x + p.x_at.at(n, row, column), win.ic, pixel);
        std::fill(pixel + (there ? win.ic : 0), pixel + channels(), X{0});
      }
    transform_input<F>(patch, F::kIn * channels(), channels(), channels(), to, b.input_position);
  }

  void multiply(const Buffers& b, int64_t position, int64_t tiles, int64_t block, int32_t* products,
                bool by_block) const {
    const int64_t pairs = pairs_of(win.ic), width = block_at(win.oc, block).width();
    const int64_t values = pairs * width;
    const SumSteps* const functions = tiles_of<PairTile>(block_at(win.oc, block).vecs());
    StepSource s{reinterpret_cast<const std::byte*>(b.input + position * b.input_position),
                 channels() * 2, 0, 1, pairs};
    int32_t* to = products + position * b.product_position;
    const int32_t* const w = weights + (block * kPositions * kBlock + position * width) * pairs;
    const int32_t* const next = w + (by_block ? values : kPositions * pairs * kBlock);
    const int64_t count = (tiles + kTile - 1) / kTile;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t f = values * i / count; f < values * (i + 1) / count; f += 16)
        __builtin_prefetch(next + f, 0, 2);
      const int64_t pixels = tiles * (i + 1) / count - tiles * i / count;
      functions[pixels - 1](s, w, nullptr, to);
      s.x += pixels * s.pixel;
      to += pixels * width;
    }
  }

  void output(const Buffers& b, const int32_t* products, int64_t index, int64_t t,
              int64_t number) const {
    const Block block = block_at(win.oc, number);
    const int64_t n = grid.image(index), y = grid.row(index), x = grid.column(index);
    alignas(64) int32_t sums[F::kOut * F::kOut * kBlock];
    transform_output<F>(products + t * block.width(), b.product_position, block.width(), sums);
    finish(p,
           {sums, std::min<int64_t>(F::kOut, win.oh - y), std::min<int64_t>(F::kOut, win.ow - x),
            F::kOut * block.width(), block.width()},
           Int8Target(p, n, y, x, block.first), block);
  }
};

template <class F>
class WinogradInt8 : public Int8Conv {
 public:
  WinogradInt8(const Window& window, const int8_t* w)
      : win_(window), grid_(window, F::kOut), weights_(pack<F>(window, w)) {}

  void run(const Int8Operands& p) const override {
    const Int8Work<F> work{win_, grid_, p, weights_.data(), ForFinish<FinishSums>::of(p)};
    run_winograd(work);
  }
  int64_t weight_bytes() const override { return weights_.bytes(); }

 private:
  Window win_;
  TileGrid grid_;
  Aligned<int32_t> weights_;
};

}  // namespace

std::unique_ptr<Int8Conv> make_winograd_int8(const Window& window, const int8_t* w, int m) {
  if (m == 2) return std::make_unique<WinogradInt8<IntF2>>(window, w);
  return std::make_unique<WinogradInt8<IntF4>>(window, w);
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
