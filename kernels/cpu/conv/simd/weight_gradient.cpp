// SPDX-License-Identifier: Apache-2.0
// Weight gradients in f32, directly: dw(o, ky, kx, i) is the sum over the pixels of dy(pixel, o)
// x(pixel * stride + (ky, kx), i). Input lines are copied with their padding, so that the values of a
// kernel row, kx and i, follow each other; a pointwise convolution's lie so anyway. Bands of rows that
// fit the second cache are summed into buffers, which are added in order.
#include <algorithm>

#include "kernels/cpu/conv/gradient_cut.h"
#include "kernels/cpu/conv/lines.h"
#include "kernels/cpu/conv/scratch.h"
#include "kernels/cpu/conv/simd/outer.h"
#include "kernels/cpu/conv/simd/per_isa.h"

SEXTANT_SIMD_BEGIN();
namespace sextant::kernels::cpu::SEXTANT_SIMD {
namespace {

// The same sums where rows follow each other from image to image: of one image.
Window as_one_image(Window w, const F32Gradient& p) {
  if (!w.pointwise() || p.x.image != w.oh * w.stride * p.x.row || p.dy.image != w.oh * p.dy.row)
    return w;
  w.h *= w.n;
  w.oh *= w.n;
  w.n = 1;
  return w;
}

struct Layer {
  explicit Layer(const Window& w)
      : win(w),
        copies(!w.pointwise() || w.ic % kLanes != 0),
        run(w.kw * w.ic),
        padded_run(width_before(run, block_count(run))),
        line(line_values(w)),
        rows(std::clamp<int64_t>(band_bytes() / 4 / (w.stride * line + w.ow * w.oc), 1, w.oh)),
        bands((w.oh + rows - 1) / rows) {}
  // Rows of dw in a buffer: [oc, kh, padded_run].
  int64_t sum_row() const { return win.kh * padded_run; }
  // Lines of x and rows of dy. What is copied fits a second cache twice over.
  int64_t band_bytes() const { return copies ? 192 * 1024 : 512 * 1024; }

  const Window& win;
  bool copies;         // lines of x; else whole vectors are read where they lie
  int64_t run;         // values of a kernel row
  int64_t padded_run;  // in whole vectors
  int64_t line;        // values of an input line with its padding
  int64_t rows, bands;
};

struct SumJobs {
  const Layer& layer;
  const GradientCut& cut;
  const F32Gradient& p;
  float* sums;  // [groups, oc, kh, padded_run]

  void operator()(int64_t job) const {
    const Window& w = layer.win;
    const int64_t group = job / cut.shares;
    const Share outputs(w.oc, job % cut.shares, cut.shares);
    float* const to = sums + (group * w.oc + outputs.begin) * layer.sum_row();
    std::fill_n(to, outputs.size() * layer.sum_row(), 0.0f);
    const Share pieces = cut.pieces_of(group);
    for (int64_t piece = pieces.begin; piece < pieces.end; ++piece)
      add_band(piece / layer.bands, piece % layer.bands, outputs, to);
  }

  void add_band(int64_t n, int64_t band, const Share& outputs, float* to) const {
    const Window& w = layer.win;
    const Share rows(w.oh, band, layer.bands);
    const Strides x = layer.copies ? Strides{0, layer.line, w.ic} : Strides(p.x);
    const float* const from =
        layer.copies ? copy_lines(n, rows) : p.x.at(n, rows.begin * w.stride, 0);
    for (int64_t ky = 0; ky < w.kh; ++ky)
      for (int64_t b = 0; b < block_count(layer.run); ++b) {
        const OuterSource s{p.dy.at(n, rows.begin, 0) + outputs.begin,
                            from + ky * x.row + b * kBlock,
                            p.dy.pixel,
                            p.dy.row,
                            w.stride * x.pixel,
                            w.stride * x.row,
                            rows.size(),
                            w.ow};
        add_outers(s, outputs.size(), block_at(layer.run, b).vecs(),
                   to + ky * layer.padded_run + b * kBlock, layer.sum_row());
      }
  }

  // Those that output rows `rows` read.
  const float* copy_lines(int64_t n, const Share& rows) const {
    const Window& w = layer.win;
    const int64_t lines = (rows.size() - 1) * w.stride + w.kh;
    // A block may read past the last line's end.
    float* const copied = job_scratch_of<float>(lines * layer.line + kBlock);
    for (int64_t i = 0; i < lines; ++i)
      copy_line(w, p.x, n, rows.begin * w.stride - w.top + i, copied + i * layer.line);
    std::fill_n(copied + lines * layer.line, kBlock, 0.0f);
    return copied;
  }
};

// Adds the groups, in order, to dw.
struct AddJobs {
  const Layer& layer;
  const GradientCut& cut;
  const F32Gradient& p;
  const float* sums;

  void operator()(int64_t o) const {
    const Window& w = layer.win;
    for (int64_t ky = 0; ky < w.kh; ++ky)
      for (int64_t kx = 0; kx < w.kw; ++kx)
        for (int64_t i = 0; i < w.ic; i += kLanes) {
          const float* const from =
              sums + o * layer.sum_row() + ky * layer.padded_run + kx * w.ic + i;
          Vec sum = {};
          for (int64_t g = 0; g < cut.groups; ++g) sum += load(from + g * w.oc * layer.sum_row());
          put(p.dw, o, ky, kx, i, sum, w.ic - i);
        }
  }
};

}  // namespace

void weight_gradient(const Window& window, const F32Gradient& p) {
  const Window flat = as_one_image(window, p);
  const Layer layer(flat);
  const int64_t sum_count = flat.oc * layer.sum_row();
  const GradientCut cut(flat.n * layer.bands, sum_count * 4, flat.oc, kTile);
  // A vector may reach past the last buffer's end.
  float* const sums = shared_scratch_of<float>(cut.groups * sum_count + kLanes);
  parallel_jobs(cut.jobs, SumJobs{layer, cut, p, sums});
  parallel_jobs(flat.oc, AddJobs{layer, cut, p, sums});
}

}  // namespace sextant::kernels::cpu::SEXTANT_SIMD
SEXTANT_SIMD_END();
