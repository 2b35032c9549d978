// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/conv/data_gradient.h"

#include <algorithm>

#include "core/parallel.h"

namespace sextant::kernels::cpu {
namespace {

// Along one axis, the pixels of dx at `phase` modulo the stride: which taps of the kernel reach them,
// and from where. Pixel phase + stride a is made of dy[a - before + j] w[first - stride j] over
// j < taps.
struct Phase {
  Phase(int64_t phase, int64_t size, int64_t kernel, int64_t stride, int64_t pad)
      : pixels((size - phase + stride - 1) / stride) {
    const int64_t smallest = (phase + pad) % stride;  // of the taps
    taps = smallest < kernel ? (kernel - 1 - smallest) / stride + 1 : 0;
    first = smallest + stride * (taps - 1);
    before = taps - 1 - (phase + pad - smallest) / stride;
  }
  int64_t pixels, taps, first, before;
};

// What no tap reaches.
void fill(const F32DataGradient& p, const Pixels<float>& dx, int64_t rows, int64_t columns) {
  parallel_for(p.window.n * rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t x = 0; x < columns; ++x)
        for (int64_t c = 0; c < p.window.ic; ++c)
          dx.at(r / rows, r % rows, x)[c] = p.bias ? p.bias[c] : 0.0f;
  });
}

// The pixels of dx at one phase of both axes: a convolution of dy with the taps that meet them, turned,
// inputs and outputs exchanged.
void run_phase(const F32DataGradient& p, int64_t y, int64_t x, const Phase& rows,
               const Phase& columns) {
  const Window& w = p.window;
  const Pixels<float> dx(p.dx.at(0, y, x),
                         {p.dx.image, w.stride * p.dx.row, w.stride * p.dx.pixel});
  if (rows.taps == 0 || columns.taps == 0) {
    if (!p.accumulate) fill(p, dx, rows.pixels, columns.pixels);
    return;
  }
  const Window turned{.n = w.n,
                      .h = w.oh,
                      .w = w.ow,
                      .ic = w.oc,
                      .oh = rows.pixels,
                      .ow = columns.pixels,
                      .oc = w.ic,
                      .kh = rows.taps,
                      .kw = columns.taps,
                      .stride = 1,
                      .top = rows.before,
                      .left = columns.before};
  const WeightView weights{p.w.data + rows.first * p.w.ky + columns.first * p.w.kx,
                           p.depthwise ? p.w.o : p.w.i, -w.stride * p.w.ky, -w.stride * p.w.kx,
                           p.depthwise ? p.w.i : p.w.o};
  F32Operands o;
  o.x = p.dy;
  o.y = dx;
  o.bias = p.bias;
  if (p.accumulate) o.residual = Pixels<const float>(dx.data, dx);
  const auto conv = p.depthwise ? make_depthwise(turned, weights)
                                : make_conv(turned, weights, ConvAlgorithm::kAuto);
  conv->run(o);
}

}  // namespace

void data_gradient(const F32DataGradient& p) {
  const Window& w = p.window;
  for (int64_t y = 0; y < std::min(w.stride, w.h); ++y)
    for (int64_t x = 0; x < std::min(w.stride, w.w); ++x)
      run_phase(p, y, x, Phase(y, w.h, w.kh, w.stride, w.top),
                Phase(x, w.w, w.kw, w.stride, w.left));
}

}  // namespace sextant::kernels::cpu
