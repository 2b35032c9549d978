// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/nms.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

// The kept boxes so far, each number in an array of its own, so that a candidate is compared with
// many at once.
class Kept {
 public:
  // Whether the IoU of the box with one of the kept ones is above the limit.
  bool overlaps(const float* box, float area, float limit) const {
    const int64_t n = static_cast<int64_t>(area_.size());
    constexpr int64_t kBlock = 64;
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t end = std::min(n, begin + kBlock);
      int any = 0;
#pragma omp simd reduction(| : any)
      for (int64_t k = begin; k < end; ++k) {
        const float w = std::max(std::min(x2_[k], box[2]) - std::max(x1_[k], box[0]), 0.0f);
        const float h = std::max(std::min(y2_[k], box[3]) - std::max(y1_[k], box[1]), 0.0f);
        const float overlap = w * h;
        any |= overlap / (area_[k] + area - overlap) > limit ? 1 : 0;
      }
      if (any) return true;
    }
    return false;
  }
  void add(const float* box, float area) {
    x1_.push_back(box[0]);
    y1_.push_back(box[1]);
    x2_.push_back(box[2]);
    y2_.push_back(box[3]);
    area_.push_back(area);
  }

 private:
  std::vector<float> x1_, y1_, x2_, y2_, area_;
};

// Increases with falling score, and with the index for equal scores.
uint64_t sort_key(float score, size_t index) {
  const auto bits = std::bit_cast<uint32_t>(score);
  const uint32_t rising = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(~rising) << 32 | index;
}

// The largest float not above x: f > x in double is the same as f > float_below(x) in float.
float float_below(double x) {
  const auto f = static_cast<float>(x);
  return static_cast<double>(f) > x ? std::nextafter(f, -std::numeric_limits<float>::infinity())
                                    : f;
}

// Appends the candidates of one prediction row.
void append_candidates(const float* row, int64_t classes, const NmsOptions& options,
                       std::vector<Detection>& out) {
  const float conf = options.conf;
  const float objectness = row[4];
  const float* scores = row + 5;
  if (!(objectness > conf)) return;
  int any = 0;  // almost always none, so counting, which vectorizes, is faster than searching
#pragma omp simd reduction(| : any)
  for (int64_t c = 0; c < classes; ++c) any |= scores[c] > conf ? 1 : 0;
  if (!any) return;
  Detection d;
  d.x1 = row[0] - row[2] * 0.5f;
  d.y1 = row[1] - row[3] * 0.5f;
  d.x2 = row[0] + row[2] * 0.5f;
  d.y2 = row[1] + row[3] * 0.5f;
  const auto add = [&](int64_t c) {
    d.score = scores[c] * objectness;
    d.class_id = static_cast<int32_t>(c);
    if (d.score > conf) out.push_back(d);
  };
  if (options.multi_label && classes > 1)
    for (int64_t c = 0; c < classes; ++c) add(c);
  else
    add(std::max_element(scores, scores + classes) - scores);
}

// The best of one image's candidates; returns how many were written to `out`.
int32_t suppress(const std::vector<Detection>& candidates, const NmsOptions& options,
                 Detection* out) {
  std::vector<uint64_t> order;
  order.reserve(candidates.size());
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Detection& d = candidates[i];
    if (options.classes.empty() || std::ranges::count(options.classes, d.class_id) > 0)
      order.push_back(sort_key(d.score, i));
  }
  if (static_cast<int64_t>(order.size()) > options.max_candidates) {
    std::nth_element(order.begin(), order.begin() + options.max_candidates, order.end());
    order.resize(options.max_candidates);
  }
  std::sort(order.begin(), order.end());

  const float limit = float_below(options.iou);
  int32_t count = 0;
  Kept kept;
  for (const uint64_t key : order) {
    if (count >= options.max_det) break;
    const Detection& d = candidates[key & 0xFFFFFFFFu];
    const float move =
        options.agnostic ? 0.0f : static_cast<float>(d.class_id) * options.class_offset;
    const float box[4] = {d.x1 + move, d.y1 + move, d.x2 + move, d.y2 + move};
    const float area = (box[2] - box[0]) * (box[3] - box[1]);
    if (kept.overlaps(box, area, limit)) continue;
    kept.add(box, area);
    out[count++] = d;
  }
  return count;
}

}  // namespace

void non_max_suppression(const NonMaxSuppression& p) {
  const int64_t width = 5 + p.classes;
  parallel_for(p.batch, 1, [&](int64_t begin, int64_t end) {
    std::vector<Detection> candidates;
    for (int64_t n = begin; n < end; ++n) {
      candidates.clear();
      const float* row = p.predictions + n * p.anchors * width;
      for (int64_t a = 0; a < p.anchors; ++a, row += width)
        append_candidates(row, p.classes, p.options, candidates);
      p.count[n] = suppress(candidates, p.options, p.out + n * p.options.max_det);
    }
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
