// SPDX-License-Identifier: Apache-2.0
// Direct convolutions in f32. The lines that a band of output rows reads are copied with their
// padding, so that for each kernel row a pixel's values follow each other; a pointwise convolution
// reads its source as it lies. Each value of the result is one sum in one order, however the layer
// is cut into jobs.
#include <algorithm>

#include "kernels/cpu/conv/cuts.h"
#include "kernels/cpu/conv/lines.h"
#include "kernels/cpu/conv/scratch.h"
#include "kernels/cpu/conv/simd/finish.h"
#include "kernels/cpu/conv/simd/per_isa.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

// [blocks, kh, kw, ic, lanes of the block]
Aligned<float> pack(const Window& win, const WeightView& w) {
  const int64_t taps = win.kh * win.kw * win.ic;
  Aligned<float> packed(taps * width_before(win.oc, block_count(win.oc)));
  float* to = packed.data();
  for (int64_t b = 0; b < block_count(win.oc); ++b) {
    const Block block = block_at(win.oc, b);
    const int64_t width = block.width();
    for (int64_t ky = 0; ky < win.kh; ++ky)
      for (int64_t kx = 0; kx < win.kw; ++kx)
        for (int64_t i = 0; i < win.ic; ++i, to += width) {
          for (int64_t o = 0; o < block.channels; ++o) to[o] = w.at(block.first + o, ky, kx, i);
          for (int64_t o = block.channels; o < width; ++o) to[o] = 0;
        }
  }
  return packed;
}

// One run of output pixels of all or some blocks.
struct Run {
  const Window& win;
  const F32Operands& p;
  const float* weights;
  Finish finish;
  bool in_registers;  // the activation is the micro-kernel's

  // Sums at s, of `pixels` pixels from (n, y, x) on, of blocks [from, to).
  void blocks(const TileSource& s, int64_t n, int64_t y, int64_t x, int64_t pixels, int64_t from,
              int64_t to) const {
    for (int64_t b = from; b < to; ++b) {
      const Block block = block_at(win.oc, b);
      const float* w = weights + b * kBlock * win.kh * win.kw * win.ic;
      one_block(s, w, block, FinishTarget(p, n, y, x, block.first), pixels);
    }
  }

  void one_block(TileSource s, const float* w, Block block, FinishTarget t, int64_t pixels) const {
    const SumTile* tiles = tiles_of<F32Tile>(block.vecs());
    if (in_registers && block.whole()) {
      const TileTarget target{t.y,
                              t.pixel,
                              p.bias ? p.bias + block.first : nullptr,
                              p.residual.data ? t.residual : nullptr,
                              t.residual_pixel,
                              p.epilogue.residual_scale,
                              p.epilogue.residual_before_activation,
                              p.epilogue.activation == Activation::kReLU};
      return sum_tiles(tiles, s, w, target, pixels);
    }
    alignas(64) float sums[kTile * kBlock];
    for (int64_t count = (pixels + kTile - 1) / kTile; count > 0; --count) {
      const int64_t now = pixels / count;
      tiles[now - 1](s, w, TileTarget{sums, block.width()});
      finish(p, sums, now, t, block);
      pixels -= now;
      s.x += now * s.pixel;
      t.y += now * t.pixel;
      t.residual += now * t.residual_pixel;
    }
  }
};

struct PointwiseJobs {
  const Run& run;
  const PointwiseCut& cut;

  void operator()(int64_t job) const {
    const int64_t n = cut.image(job), y = cut.row_of_image(job), stride = run.win.stride;
    const Share pixels = cut.pixels(job), channels = cut.channels(job);
    const TileSource s{run.p.x.at(n, y * stride, pixels.begin * stride), stride * run.p.x.pixel, 0,
                       1, run.win.ic};
    run.blocks(s, n, y, pixels.begin, pixels.size(), channels.begin, channels.end);
  }
};

struct BandJobs {
  const Run& run;
  const BandCut& cut;

  void operator()(int64_t job) const {
    const Window& w = run.win;
    const int64_t n = cut.image(job);
    const Share rows = cut.rows(job), channels = cut.channels(job);
    const int64_t lines = (rows.size() - 1) * w.stride + w.kh, line = line_values(w);
    float* const copied = job_scratch_of<float>(lines * line);
    for (int64_t i = 0; i < lines; ++i)
      copy_line(w, run.p.x, n, rows.begin * w.stride - w.top + i, copied + i * line);
    for (int64_t b = channels.begin; b < channels.end; ++b)
      for (int64_t y = rows.begin; y < rows.end; ++y) {
        const float* const first = copied + (y - rows.begin) * w.stride * line;
        run.blocks({first, w.stride * w.ic, line, w.kh, w.kw * w.ic}, n, y, 0, w.ow, b, b + 1);
      }
  }
};

class Direct : public F32Conv {
 public:
  Direct(const Window& window, const WeightView& w) : win_(window), weights_(pack(window, w)) {}

  void run(const F32Operands& p) const override {
    const bool registers = !p.gain && (p.epilogue.activation == Activation::kIdentity ||
                                       p.epilogue.activation == Activation::kReLU);
    const Run run{win_, p, weights_.data(), finish_of(p.epilogue.activation), registers};
    const int64_t blocks = block_count(win_.oc);
    if (win_.pointwise()) {
      const bool one_row = win_.stride == 1 && p.x.even(win_.h, win_.w) &&
                           p.y.even(win_.oh, win_.ow) &&
                           (!p.residual.data || p.residual.even(win_.oh, win_.ow));
      const PointwiseCut cut(win_, one_row, kTile, blocks);
      parallel_jobs(cut.jobs, PointwiseJobs{run, cut});
    } else {
      const BandCut cut(win_, line_values(win_) * 4, blocks);
      parallel_jobs(cut.jobs, BandJobs{run, cut});
    }
  }
  int64_t weight_bytes() const override { return weights_.bytes(); }

 private:
  Window win_;
  Aligned<float> weights_;
};

}  // namespace

std::unique_ptr<F32Conv> make_direct(const Window& window, const WeightView& w) {
  return std::make_unique<Direct>(window, w);
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
