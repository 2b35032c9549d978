// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of stride 1 in f32 by F(m x m, 3x3), m 2 or 4 (points.h, winograd_jobs.h).
#include <algorithm>

#include "kernels/cpu/conv/cuts.h"
#include "kernels/cpu/conv/simd/finish.h"
#include "kernels/cpu/conv/simd/per_isa.h"
#include "kernels/cpu/conv/simd/tile_transform.h"
#include "kernels/cpu/conv/simd/winograd_jobs.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

// Weights of some input channels of a block, transformed: [blocks, positions, ic, lanes of the block].
template <class F>
struct PackJobs {
  static constexpr int64_t kInputs = 8;  // gathered at once

  PackJobs(const Window& window, const WeightView& weights, float* to)
      : win(window), w(weights), packed(to) {
    const int64_t blocks = block_count(win.oc);
    shares = parts_for(blocks, std::max<int64_t>(1, win.ic / 32));
    jobs = blocks * shares;
  }

  void operator()(int64_t job) const {
    const Block block = block_at(win.oc, job / shares);
    const Share inputs(win.ic, job % shares, shares);
    float* const to = packed + job / shares * F::kIn * F::kIn * win.ic * kBlock;
    for (int64_t o = 0; o < block.width(); o += kLanes)
      for (int64_t i = inputs.begin; i < inputs.end; i += kInputs) {
        alignas(64) float taps[kInputs][3][3][kLanes];
        const int64_t count = std::min<int64_t>(kInputs, inputs.end - i);
        gather(block, o, i, count, taps);
        for (int64_t k = 0; k < count; ++k)
          transform(taps[k], to + (i + k) * block.width() + o, win.ic * block.width());
      }
  }

  void gather(Block block, int64_t o, int64_t i, int64_t count,
              float (&taps)[kInputs][3][3][kLanes]) const {
    for (int64_t l = 0; l < kLanes; ++l)
      for (int64_t ky = 0; ky < 3; ++ky)
        for (int64_t kx = 0; kx < 3; ++kx) {
          const bool there = o + l < block.channels;
          const WeightView from = there ? w.from(block.first + o + l) : w;
          for (int64_t k = 0; k < count; ++k)
            taps[k][ky][kx][l] = there ? from.at(0, ky, kx, i + k) : 0.0f;
        }
  }

  static void transform(const float (&taps)[3][3][kLanes], float* to, int64_t position) {
    Vec half[3][F::kIn];  // of each kernel row
    for (int64_t ky = 0; ky < 3; ++ky) {
      const Vec g[3] = {load(taps[ky][0]), load(taps[ky][1]), load(taps[ky][2])};
      F::weight(g, half[ky]);
    }
    for (int64_t x = 0; x < F::kIn; ++x) {
      const Vec g[3] = {half[0][x], half[1][x], half[2][x]};
      Vec u[F::kIn];
      F::weight(g, u);
      for (int64_t y = 0; y < F::kIn; ++y) store(to + (y * F::kIn + x) * position, u[y]);
    }
  }

  const Window& win;
  const WeightView& w;
  float* packed;
  int64_t shares, jobs;
};

template <class F>
Aligned<float> pack(const Window& win, const WeightView& w) {
  Aligned<float> packed(F::kIn * F::kIn * win.ic * width_before(win.oc, block_count(win.oc)));
  const PackJobs<F> work(win, w, packed.data());
  parallel_jobs(work.jobs, work);
  return packed;
}

// Products of one tile and block, positions `position` apart, to [rows, columns] pixels of the result
// at t.y, `row` apart.
template <class F, Activation A>
void transform_output(const F32Operands& p, const float* from, int64_t position, Block block,
                      const FinishTarget& t, int64_t rows, int64_t columns) {
  const FinishVec<A> finish(p);
  for (int64_t c = 0; c < block.channels; c += kLanes) {
    const int64_t count = block.channels - c;
    Vec half[F::kOut][F::kIn];
#pragma GCC unroll 6
    for (int j = 0; j < F::kIn; ++j) {
      Vec m[F::kIn], y[F::kOut];
#pragma GCC unroll 6
      for (int i = 0; i < F::kIn; ++i) m[i] = load(from + (i * F::kIn + j) * position + c);
      F::output(m, y);
#pragma GCC unroll 4
      for (int i = 0; i < F::kOut; ++i) half[i][j] = y[i];
    }
    const Vec bias = p.bias ? load_part(p.bias + block.first + c, count) : Vec{};
    const Vec gain = finish.gain_of(p, block.first + c, count);
    for (int64_t i = 0; i < rows; ++i) {
      Vec y[F::kOut];
      F::output(half[i], y);
      float* const to = t.y + i * p.y.row + c;
      const float* const residual = t.residual + i * p.residual.row + c;
#pragma GCC unroll 4
      for (int j = 0; j < F::kOut; ++j)
        if (j < columns)
          store_part(to + j * t.pixel,
                     finish(y[j] + bias, residual + j * t.residual_pixel, gain, count), count);
    }
  }
}
template <class F>
struct OutputOf {
  using Function = void (*)(const F32Operands&, const float*, int64_t, Block, const FinishTarget&,
                            int64_t, int64_t);
  template <Activation A>
  struct For {
    static constexpr Function value = transform_output<F, A>;
  };
};

template <class F>
struct F32Work {
  using Input = float;
  using Product = float;
  using Buffers = TileBuffers<F32Work>;
  static constexpr int64_t kPositions = F::kIn * F::kIn;

  const Window& win;
  const TileGrid& grid;
  const F32Operands& p;
  const float* weights;
  typename OutputOf<F>::Function transform_output;

  const TileGrid& tiles() const { return grid; }
  int64_t blocks() const { return block_count(win.oc); }
  int64_t channels() const { return whole_vectors(win.ic); }

  void input(const Buffers& b, int64_t index, int64_t t, float* patch) const {
    transform_tile<F>(win, p.x, grid, index, patch, b.input + t * channels(), b.input_position);
  }

  void multiply(const Buffers& b, int64_t position, int64_t tiles, int64_t block, float* products,
                bool by_block) const {
    const int64_t width = block_at(win.oc, block).width(), values = win.ic * width;
    const SumTile* const functions = tiles_of<F32Tile>(block_at(win.oc, block).vecs());
    TileSource s{b.input + position * b.input_position, channels(), 0, 1, win.ic};
    TileTarget t{products + position * b.product_position, width};
    const float* const w = weights + (block * kPositions * kBlock + position * width) * win.ic;
    const float* const next = w + (by_block ? values : kPositions * win.ic * kBlock);
    const int64_t count = (tiles + kTile - 1) / kTile;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t f = values * i / count; f < values * (i + 1) / count; f += 16)
        __builtin_prefetch(next + f, 0, 2);
      const int64_t pixels = tiles * (i + 1) / count - tiles * i / count;
      functions[pixels - 1](s, w, t);
      s.x += pixels * s.pixel;
      t.y += pixels * t.pixel;
    }
  }

  void output(const Buffers& b, const float* products, int64_t index, int64_t t,
              int64_t number) const {
    const Block block = block_at(win.oc, number);
    const int64_t n = grid.image(index), y = grid.row(index), x = grid.column(index);
    transform_output(p, products + t * block.width(), b.product_position, block,
                     FinishTarget(p, n, y, x, block.first), std::min<int64_t>(F::kOut, win.oh - y),
                     std::min<int64_t>(F::kOut, win.ow - x));
  }
};

template <class F>
class Winograd : public F32Conv {
 public:
  Winograd(const Window& window, const WeightView& w)
      : win_(window), grid_(window, F::kOut), weights_(pack<F>(window, w)) {}

  void run(const F32Operands& p) const override {
    const F32Work<F> work{win_, grid_, p, weights_.data(),
                          choose<OutputOf<F>::template For>(p.epilogue.activation)};
    run_winograd(work);
  }
  int64_t weight_bytes() const override { return weights_.bytes(); }

 private:
  Window win_;
  TileGrid grid_;
  Aligned<float> weights_;
};

}  // namespace

std::unique_ptr<F32Conv> make_winograd(const Window& window, const WeightView& w, int m) {
  if (m == 2) return std::make_unique<Winograd<F2>>(window, w);
  return std::make_unique<Winograd<F4>>(window, w);
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
