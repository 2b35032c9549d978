// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/atss.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"
#include "kernels/math/assign.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

using namespace assigning;

// The assignment of one image. The vectors are reused for the next image.
class AtssImage {
 public:
  explicit AtssImage(const AtssAssign& p) : p_(p) {}

  void run(int64_t n) {
    boxes_ = p_.gt_boxes + 4 * p_.gt_begin[n];
    count_ = p_.gt_begin[n + 1] - p_.gt_begin[n];
    assigned_ = p_.assigned + n * p_.anchors;
    double* target = p_.target + n * p_.anchors;
    std::fill_n(assigned_, p_.anchors, -1);
    std::fill_n(target, p_.anchors, 0.0);
    positives_.clear();
    for (int64_t g = 0; g < count_; ++g) select(static_cast<int32_t>(g));
    for (const int64_t a : positives_) {
      if (assigned_[a] == kConflict) assigned_[a] = closest_box(a);
      const double u =
          iou(boxes_ + 4 * assigned_[a], p_.pred_boxes + 4 * (n * p_.anchors + a), p_.eps);
      target[a] = u > 0.0 ? u : 0.0;  // also for NaN
    }
  }

 private:
  static constexpr int32_t kConflict = -2;

  double overlap_of(int64_t g, int64_t a) const {
    return anchor_iou(boxes_ + 4 * g, p_.anchor_boxes + 4 * a);
  }

  // Appends the topk anchors of [first, last) that are closest to (x, y).
  void add_candidates(int64_t first, int64_t last, double x, double y) {
    near_.clear();
    for (int64_t a = first; a < last; ++a) {
      const double dx = p_.points[2 * a] - x, dy = p_.points[2 * a + 1] - y;
      near_.emplace_back(dx * dx + dy * dy, a);
    }
    const int64_t take = std::min(p_.topk, last - first);
    std::partial_sort(near_.begin(), near_.begin() + take, near_.end());
    for (int64_t i = 0; i < take; ++i) candidates_.push_back(near_[i].second);
  }

  // Claims the positive anchors of box g.
  void select(int32_t g) {
    const double* box = boxes_ + 4 * g;
    candidates_.clear();
    int64_t first = 0;
    for (int l = 0; l < p_.levels; ++l) {
      add_candidates(first, first + p_.level_anchors[l], (box[0] + box[2]) / 2.0,
                     (box[1] + box[3]) / 2.0);
      first += p_.level_anchors[l];
    }
    overlaps_.clear();
    double mean = 0.0;
    for (const int64_t a : candidates_) {
      overlaps_.push_back(overlap_of(g, a));
      mean += overlaps_.back();
    }
    const auto count = static_cast<double>(candidates_.size());
    mean /= count;
    double squares = 0.0;
    for (const double u : overlaps_) squares += (u - mean) * (u - mean);
    const double threshold = mean + (count > 1.0 ? std::sqrt(squares / (count - 1.0)) : 0.0);
    for (size_t i = 0; i < candidates_.size(); ++i) {
      const int64_t a = candidates_[i];
      if (!(overlaps_[i] > threshold) || !inside(p_.points + 2 * a, box, p_.eps)) continue;
      if (assigned_[a] == -1) positives_.push_back(a);
      assigned_[a] = assigned_[a] == -1 ? g : kConflict;
    }
  }

  int32_t closest_box(int64_t a) const {
    int32_t best = 0;
    for (int64_t g = 1; g < count_; ++g)
      if (overlap_of(g, a) > overlap_of(best, a)) best = static_cast<int32_t>(g);
    return best;
  }

  const AtssAssign& p_;
  const double* boxes_ = nullptr;
  int64_t count_ = 0;
  int32_t* assigned_ = nullptr;
  std::vector<std::pair<double, int64_t>> near_;  // squared distance, anchor
  std::vector<int64_t> candidates_;
  std::vector<double> overlaps_;
  std::vector<int64_t> positives_;
};

}  // namespace

void atss_assign(const AtssAssign& p) {
  parallel_for(p.batch, 1, [&](int64_t begin, int64_t end) {
    AtssImage image(p);
    for (int64_t n = begin; n < end; ++n) image.run(n);
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
