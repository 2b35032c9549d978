// With kernel = stride the transposed convolution is a 1x1 convolution with k*k*oc outputs,
// followed by moving each output patch to its place.
#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "core/tensor.h"
#include "kernels/cpu/f32_only.h"
#include "kernels/cpu/kernels.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

ConvShape pointwise(const ConvTransposeShape& s) {
  return {s.n, s.h, s.w, s.ic, s.k * s.k * s.oc, 1, 1, 1, 0, 1};
}

// [oc,k,k,ic] <-> [k,k,oc,ic]
void weight_to_pointwise(const ConvTransposeShape& s, const float* w, float* out) {
  for (int64_t o = 0; o < s.oc; ++o)
    for (int64_t t = 0; t < s.k * s.k; ++t)
      std::copy_n(w + (o * s.k * s.k + t) * s.ic, s.ic, out + (t * s.oc + o) * s.ic);
}
void weight_from_pointwise(const ConvTransposeShape& s, const float* in, float* w) {
  for (int64_t o = 0; o < s.oc; ++o)
    for (int64_t t = 0; t < s.k * s.k; ++t)
      std::copy_n(in + (t * s.oc + o) * s.ic, s.ic, w + (o * s.k * s.k + t) * s.ic);
}

// patches [n,h,w,k,k,oc] -> y [n,h*k,w*k,oc], or back
template <bool kForward>
void move_patches(const ConvTransposeShape& s, float* patches, float* y) {
  const int64_t run = s.k * s.oc;
  parallel_for(s.n * s.h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t j = 0; j < s.w; ++j)
        for (int64_t a = 0; a < s.k; ++a) {
          float* patch = patches + ((r * s.w + j) * s.k + a) * run;
          float* row = y + ((r * s.k + a) * s.w + j) * run;
          if constexpr (kForward)
            std::copy_n(patch, run, row);
          else
            std::copy_n(row, run, patch);
        }
  });
}

}  // namespace

void conv_transpose_forward(const ConvTransposeForward& p) {
  const ConvTransposeShape& s = p.shape;
  const ConvShape c = pointwise(s);
  std::vector<float> w(static_cast<size_t>(c.w_numel()));
  weight_to_pointwise(s, f32(p.w), w.data());
  std::vector<float> bias;
  if (p.bias)
    for (int64_t t = 0; t < s.k * s.k; ++t) bias.insert(bias.end(), p.bias, p.bias + s.oc);
  const Tensor patches(Shape{c.y_numel()});
  conv_forward({c, p.x, w.data(), p.bias ? bias.data() : nullptr, patches.f32()});
  move_patches<true>(s, patches.f32(), f32(p.y));
}

void conv_transpose_backward(const ConvTransposeBackward& p) {
  const ConvTransposeShape& s = p.shape;
  const ConvShape c = pointwise(s);
  const Tensor patches(Shape{c.y_numel()});
  move_patches<false>(s, patches.f32(), const_cast<float*>(f32(p.dy)));
  std::vector<float> w(static_cast<size_t>(c.w_numel()));
  if (p.dx) {
    weight_to_pointwise(s, f32(p.w), w.data());
    conv_backward_data({c, patches.f32(), w.data(), p.dx});
  }
  if (p.dw || p.db) {
    std::vector<float> db(static_cast<size_t>(c.oc));
    conv_backward_weight({c, p.x, patches.f32(), w.data(), db.data()});
    if (p.dw) weight_from_pointwise(s, w.data(), p.dw);
    for (int64_t o = 0; p.db && o < s.oc; ++o) {
      double sum = 0;
      for (int64_t t = 0; t < s.k * s.k; ++t) sum += db[static_cast<size_t>(t * s.oc + o)];
      p.db[o] = static_cast<float>(sum);
    }
  }
}

}  // namespace sextant::kernels::SEXTANT_CPU
