#include "kernels/decode.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "core/parallel.h"
#include "kernels/dfl.h"

namespace sextant::kernels::cpu {
namespace {

// The pixels of one level of one image, in runs of at most kRun.
constexpr int64_t kRun = 512;

struct LevelDecoder {
  const Decode& p;
  const DecodeLevel& level;
  int64_t cls_pitch;
  int64_t reg_pitch;
  int64_t pixels;

  LevelDecoder(const Decode& decode, int l)
      : p(decode),
        level(decode.level[l]),
        cls_pitch(level.cls_pitch ? level.cls_pitch : decode.classes),
        reg_pitch(level.reg_pitch ? level.reg_pitch : 4 * (decode.reg_max + 1)),
        pixels(level.height * level.width) {}

  const float* cls(int64_t n, int64_t pixel) const {
    return static_cast<const float*>(level.cls) + (n * pixels + pixel) * cls_pitch;
  }

  // The 5 + classes values of a pixel's row. Not inlined: decode() and decode_candidates() have to
  // give the same bits, so they share the very instructions.
  [[gnu::noinline]] void row(int64_t n, int64_t pixel, float* out) const {
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
    out[4] = 1.0f;
    const float* z = cls(n, pixel);
    float* scores = out + 5;
#pragma omp simd
    for (int64_t c = 0; c < p.classes; ++c) scores[c] = sigmoid(z[c]);
  }
};

void check_type(const Decode& p) {
  check(p.dtype == DType::kF32, "decode: maps of {}, must be F32", name_of(p.dtype));
}

// A logit whose computed sigmoid is certainly not above conf: a little less than conf's own.
float safe_logit(float conf) {
  const double t = static_cast<double>(conf) * (1.0 - 2e-6) - 4e-7;
  if (t <= 0.0) return -std::numeric_limits<float>::infinity();
  if (t >= 1.0) return std::numeric_limits<float>::infinity();
  return static_cast<float>(std::log(t / (1.0 - t)));
}

// Reads one run of pixels and appends its candidates.
void run_candidates(const LevelDecoder& d, int64_t n, int64_t begin, int64_t end, float conf,
                    bool multi_label, std::vector<Detection>& out) {
  const float limit = safe_logit(conf);
  const int64_t classes = d.p.classes;
  std::vector<float> row(5 + classes);
  for (int64_t i = begin; i < end; ++i) {
    const float* z = d.cls(n, i);
    int any = 0;
#pragma omp simd reduction(| : any)
    for (int64_t c = 0; c < classes; ++c) any |= z[c] >= limit ? 1 : 0;
    if (!any) continue;
    d.row(n, i, row.data());
    append_candidates(row.data(), classes, conf, multi_label, out);
  }
}

}  // namespace

void decode(const Decode& p, float* out) {
  check_type(p);
  const int64_t width = 5 + p.classes;
  const int64_t anchors = p.anchors();
  int64_t offset = 0;
  for (int l = 0; l < p.levels; ++l) {
    const LevelDecoder d(p, l);
    parallel_for(p.batch * d.pixels, kRun, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / d.pixels;
        const int64_t pixel = i % d.pixels;
        d.row(n, pixel, out + (n * anchors + offset + pixel) * width);
      }
    });
    offset += d.pixels;
  }
}

std::vector<std::vector<Detection>> decode_candidates(const Decode& p, float conf,
                                                      bool multi_label) {
  check_type(p);
  struct Run {
    int level;
    int64_t image;
    int64_t begin;
    int64_t end;
  };
  std::vector<Run> runs;
  for (int64_t n = 0; n < p.batch; ++n)
    for (int l = 0; l < p.levels; ++l) {
      const int64_t pixels = p.level[l].height * p.level[l].width;
      for (int64_t i = 0; i < pixels; i += kRun)
        runs.push_back({l, n, i, std::min(pixels, i + kRun)});
    }
  std::vector<std::vector<Detection>> found(runs.size());
  parallel_for(static_cast<int64_t>(runs.size()), 2, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      run_candidates(LevelDecoder(p, runs[r].level), runs[r].image, runs[r].begin, runs[r].end,
                     conf, multi_label, found[r]);
  });
  std::vector<std::vector<Detection>> result(p.batch);
  for (size_t r = 0; r < runs.size(); ++r)
    std::copy(found[r].begin(), found[r].end(), std::back_inserter(result[runs[r].image]));
  return result;
}

}  // namespace sextant::kernels::cpu
