// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/conv/data_gradient.h"

#include <algorithm>
#include <vector>

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

// The pixels of dx at one phase of both axes: a convolution of dy with the taps that meet them, turned,
// inputs and outputs exchanged.
class PhaseConv {
 public:
  // Of `images` at once.
  PhaseConv(const F32DataGradient& gradient, int64_t images, int64_t y, int64_t x)
      : p_(gradient),
        images_(images),
        rows_(y, p_.window.h, p_.window.kh, p_.window.stride, p_.window.top),
        columns_(x, p_.window.w, p_.window.kw, p_.window.stride, p_.window.left),
        dx_(p_.dx.at(0, y, x),
            {p_.dx.image, p_.window.stride * p_.dx.row, p_.window.stride * p_.dx.pixel}) {
    if (rows_.taps == 0 || columns_.taps == 0) return;
    const Window& w = p_.window;
    const Window turned{.n = images,
                        .h = w.oh,
                        .w = w.ow,
                        .ic = w.oc,
                        .oh = rows_.pixels,
                        .ow = columns_.pixels,
                        .oc = w.ic,
                        .kh = rows_.taps,
                        .kw = columns_.taps,
                        .stride = 1,
                        .top = rows_.before,
                        .left = columns_.before};
    const WeightView weights{p_.w.data + rows_.first * p_.w.ky + columns_.first * p_.w.kx,
                             p_.depthwise ? p_.w.o : p_.w.i, -w.stride * p_.w.ky,
                             -w.stride * p_.w.kx, p_.depthwise ? p_.w.i : p_.w.o};
    conv_ = p_.depthwise ? make_depthwise(turned, weights)
                         : make_conv(turned, weights, ConvAlgorithm::kAuto);
  }

  // Of the images from `first` on.
  void run(int64_t first) const {
    const Pixels<float> dx(dx_.at(first, 0, 0), dx_);
    if (!conv_) {
      if (!p_.accumulate) fill(dx);
      return;
    }
    F32Operands o;
    o.x = Pixels<const float>(p_.dy.at(first, 0, 0), p_.dy);
    o.y = dx;
    o.bias = p_.bias;
    if (p_.accumulate) o.residual = Pixels<const float>(dx.data, dx);
    conv_->run(o);
  }

 private:
  // What no tap reaches.
  void fill(const Pixels<float>& dx) const {
    parallel_for(images_ * rows_.pixels, 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t x = 0; x < columns_.pixels; ++x)
          for (int64_t c = 0; c < p_.window.ic; ++c)
            dx.at(r / rows_.pixels, r % rows_.pixels, x)[c] = p_.bias ? p_.bias[c] : 0.0f;
    });
  }

  const F32DataGradient& p_;
  int64_t images_;
  Phase rows_, columns_;
  Pixels<float> dx_;
  std::unique_ptr<F32Conv> conv_;  // null: no tap reaches them
};

// As many as a third cache holds for all phases of a stride, which read the same dy and write lines of
// dx in turn.
int64_t images_at_once(const Window& w) {
  constexpr int64_t kBytes = 8 * 1024 * 1024;
  if (w.stride == 1) return w.n;
  const int64_t image = 4 * (w.h * w.w * w.ic + w.oh * w.ow * w.oc);
  int64_t images = std::clamp<int64_t>(kBytes / image, 1, w.n);
  while (w.n % images != 0) --images;
  return images;
}

}  // namespace

void data_gradient(const F32DataGradient& p) {
  const Window& w = p.window;
  if (w.n == 0) return;
  const int64_t images = images_at_once(w);
  std::vector<PhaseConv> phases;
  for (int64_t y = 0; y < std::min(w.stride, w.h); ++y)
    for (int64_t x = 0; x < std::min(w.stride, w.w); ++x) phases.emplace_back(p, images, y, x);
  for (int64_t first = 0; first < w.n; first += images)
    for (const PhaseConv& phase : phases) phase.run(first);
}

}  // namespace sextant::kernels::cpu
