#include "kernels/decode.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/dfl.h"

namespace sextant::kernels::cpu {
namespace {

constexpr int64_t kGrain = 512;  // pixels

struct LevelDecoder {
  const Decode& p;
  const DecodeLevel& level;
  int64_t cls_pitch;
  int64_t reg_pitch;
  int64_t obj_pitch;
  int64_t pixels;

  LevelDecoder(const Decode& decode, int l)
      : p(decode),
        level(decode.level[l]),
        cls_pitch(level.cls_pitch ? level.cls_pitch : decode.classes),
        reg_pitch(level.reg_pitch ? level.reg_pitch : 4 * (decode.reg_max + 1)),
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

void check_type(const Decode& p) {
  check(p.dtype == DType::kF32, "decode: maps of {}, must be F32", name_of(p.dtype));
}

}  // namespace

void decode(const Decode& p, float* out) {
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
        d.row(n, pixel, out + (n * anchors + offset + pixel) * width);
      }
    });
    offset += d.pixels;
  }
}

}  // namespace sextant::kernels::cpu
