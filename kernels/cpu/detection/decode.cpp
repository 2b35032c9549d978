// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/decode.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/kernels.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

constexpr int64_t kGrain = 512;  // pixels

struct LevelDecoder {
  const HeadMaps& p;
  const DecodeLevel& level;
  int64_t cls_pitch;
  int64_t reg_pitch;
  int64_t obj_pitch;
  int64_t pixels;

  LevelDecoder(const HeadMaps& maps, int l)
      : p(maps),
        level(maps.level[l]),
        cls_pitch(level.cls_pitch ? level.cls_pitch : maps.classes),
        reg_pitch(level.reg_pitch ? level.reg_pitch : 4 * (maps.reg_max + 1)),
        obj_pitch(level.obj_pitch ? level.obj_pitch : 1),
        pixels(level.height * level.width) {}

  const float* cls(int64_t n, int64_t pixel) const {
    return static_cast<const float*>(level.cls) + (n * pixels + pixel) * cls_pitch;
  }

  const float* obj(int64_t n, int64_t pixel) const {
    return static_cast<const float*>(level.obj) + (n * pixels + pixel) * obj_pitch;
  }

  // The 5 + classes values of a pixel's row.
  void row(int64_t n, int64_t pixel, float* out) const {
    const float* reg = static_cast<const float*>(level.reg) + (n * pixels + pixel) * reg_pitch;
    float dist[4];
    if (p.reg_max > 0) {
      constexpr int64_t kStackBins = 64;
      float prob[4 * kStackBins];
      Expectation<float> e;
      e.logits = reg;
      e.prob = p.reg_max < kStackBins ? prob : nullptr;
      e.mean = dist;
      e.rows = 4;
      e.bins = p.reg_max + 1;
      expectation(e);
    } else {
      std::copy_n(reg, 4, dist);
    }
    float box[4];
    dist2bbox(static_cast<float>(pixel % level.width) + p.cell_offset,
              static_cast<float>(pixel / level.width) + p.cell_offset, dist, box);
    out[0] = (box[0] + box[2]) * 0.5f * level.stride;
    out[1] = (box[1] + box[3]) * 0.5f * level.stride;
    out[2] = (box[2] - box[0]) * level.stride;
    out[3] = (box[3] - box[1]) * level.stride;
    out[4] = level.obj ? sigmoid(*obj(n, pixel)) : 1.0f;
    const float* z = cls(n, pixel);
    float* scores = out + 5;
#pragma omp simd
    for (int64_t c = 0; c < p.classes; ++c) scores[c] = sigmoid(z[c]);
  }
};

// The gradients of one level's maps.
struct LevelGradient {
  const LevelDecoder& d;
  const DecodeGradient& grad;

  // Takes a pixel's row and that row's gradient.
  void row(int64_t n, int64_t pixel, const float* out, const float* dy) const {
    const int64_t at = n * d.pixels + pixel, bins = d.p.reg_max + 1;
    if (grad.reg) {
      const float* reg = static_cast<const float*>(d.level.reg) + at * d.reg_pitch;
      for (int side = 0; side < 4; ++side)
        distribution(reg + side * bins, bins, distance_gradient(dy, side, d.level.stride),
                     grad.reg + (4 * at + side) * bins);
    }
    if (grad.obj) grad.obj[at] = logit_gradient(dy[4], out[4]);
    if (!grad.cls) return;
    for (int64_t c = 0; c < d.p.classes; ++c)
      grad.cls[at * d.p.classes + c] = logit_gradient(dy[5 + c], out[5 + c]);
  }

  // The gradient of a distribution's logits from that of its expectation: prob_k (k - mean).
  static void distribution(const float* logits, int64_t bins, float dmean, float* out) {
    if (bins == 1) {
      *out = dmean;
      return;
    }
    float mean = 0.0f;
    expectation(Expectation<float>{logits, out, &mean, 1, bins});
    for (int64_t k = 0; k < bins; ++k) out[k] *= dmean * (static_cast<float>(k) - mean);
  }
};

void check_type(const HeadMaps& p) {
  check(p.dtype == DType::kF32, "decode: maps of {}, must be F32", name_of(p.dtype));
}

}  // namespace

namespace {

// Calls f(level's decoder, l, image, pixel, first value of its row).
template <class F>
void for_each_pixel(const HeadMaps& p, const F& f) {
  check_type(p);
  const int64_t width = 5 + p.classes;
  const int64_t anchors = p.anchors();
  int64_t offset = 0;
  for (int l = 0; l < p.levels; ++l) {
    const LevelDecoder d(p, l);
    parallel_for(p.batch * d.pixels, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / d.pixels;
        const int64_t pixel = i % d.pixels;
        f(d, l, n, pixel, (n * anchors + offset + pixel) * width);
      }
    });
    offset += d.pixels;
  }
}

}  // namespace

void decode(const Decode& p) {
  for_each_pixel(p.maps, [&](const LevelDecoder& d, int, int64_t n, int64_t pixel, int64_t at) {
    d.row(n, pixel, p.out + at);
  });
}

void decode_backward(const DecodeBackward& p) {
  for_each_pixel(p.maps, [&](const LevelDecoder& d, int l, int64_t n, int64_t pixel, int64_t at) {
    LevelGradient{d, p.grad[static_cast<size_t>(l)]}.row(n, pixel, p.out + at, p.dy + at);
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
