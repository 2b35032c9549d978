// SPDX-License-Identifier: Apache-2.0
#include "kernels/math/simota.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

using namespace assigning;

bool is_near(const SimOtaAssign& p, int64_t a, const double* box) {
  return near_centre(p.points + 2 * a, p.radius * p.strides[a], box);
}

bool is_candidate(const SimOtaAssign& p, int64_t n, int64_t a) {
  for (int64_t g = p.gt_begin[n]; g < p.gt_begin[n + 1]; ++g) {
    const double* box = p.gt_boxes + 4 * g;
    if (inside(p.points + 2 * a, box, 0.0) || is_near(p, a, box)) return true;
  }
  return false;
}

// The assignment of one image. The vectors are reused for the next image.
class SimOtaImage {
 public:
  explicit SimOtaImage(const SimOtaAssign& p) : p_(p) {}

  void run(int64_t n) {
    n_ = n;
    const int64_t boxes = p_.gt_begin[n + 1] - p_.gt_begin[n];
    int32_t* assigned = p_.assigned + n * p_.anchors;
    double* target = p_.target + n * p_.anchors;
    std::fill_n(assigned, p_.anchors, -1);
    std::fill_n(target, p_.anchors, 0.0);
    candidates_.clear();
    for (int64_t a = 0; a < p_.anchors; ++a)
      if (is_candidate(p_, n, a)) candidates_.push_back(a);
    if (candidates_.empty()) return;
    score_classes(boxes);
    const int64_t count = static_cast<int64_t>(candidates_.size());
    taken_.assign(count, 0);
    best_.assign(count, 0);
    for (int64_t g = 0; g < boxes; ++g) {
      take_cheapest(g);
      for (int64_t i = 0; i < count; ++i)
        if (cost(g, i) < cost(best_[i], i)) best_[i] = static_cast<int32_t>(g);
    }
    for (int64_t i = 0; i < count; ++i) {
      if (taken_[i] == 0) continue;
      const int32_t g = taken_[i] == kConflict ? best_[i] : taken_[i] - 1;
      assigned[candidates_[i]] = g;
      target[candidates_[i]] = overlaps_[g * count + i];
    }
  }

 private:
  static constexpr int32_t kConflict = -1;

  double cost(int64_t g, int64_t i) const {
    return costs_[g * static_cast<int64_t>(candidates_.size()) + i];
  }

  // Fills overlaps_ and costs_ for all boxes and candidates.
  void score_classes(int64_t boxes) {
    const int64_t count = static_cast<int64_t>(candidates_.size());
    overlaps_.resize(boxes * count);
    costs_.resize(boxes * count);
    terms_.resize(p_.classes);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t a = candidates_[i];
      const float* z = scores_at(p_.scores, n_, a);
      const double object = p_.has_objectness
                                ? logistic(static_cast<double>(scores_at(p_.objectness, n_, a)[0]))
                                : 1.0;
      double background = 0.0;
      for (int64_t c = 0; c < p_.classes; ++c) {
        terms_[c] = class_terms(z[c], object);
        background -= terms_[c].log_not_p;
      }
      const double* pred = p_.pred_boxes + 4 * (n_ * p_.anchors + a);
      for (int64_t g = 0; g < boxes; ++g) {
        const double* box = p_.gt_boxes + 4 * (p_.gt_begin[n_] + g);
        const int32_t c = p_.gt_classes[p_.gt_begin[n_] + g];
        const double u = iou(box, pred, p_.eps);
        const double overlap = u > 0.0 ? u : 0.0;  // also for NaN
        const bool well = inside(p_.points + 2 * a, box, 0.0) && is_near(p_, a, box);
        overlaps_[g * count + i] = overlap;
        costs_[g * count + i] = simota_cost(background, terms_[c], overlap, well, p_.iou_weight);
      }
    }
  }

  // Marks the candidates box g takes.
  void take_cheapest(int64_t g) {
    const int64_t count = static_cast<int64_t>(candidates_.size());
    const double* overlap = &overlaps_[g * count];
    largest_.resize(std::min(p_.dynamic_k, count));
    std::partial_sort_copy(overlap, overlap + count, largest_.begin(), largest_.end(),
                           std::greater<>());
    double sum = 0.0;
    for (const double u : largest_) sum += u;
    const int64_t k = std::clamp<int64_t>(static_cast<int64_t>(sum), 1, count);
    order_.resize(count);
    for (int64_t i = 0; i < count; ++i) order_[i] = i;
    std::partial_sort(order_.begin(), order_.begin() + k, order_.end(), [&](int64_t x, int64_t y) {
      return cost(g, x) != cost(g, y) ? cost(g, x) < cost(g, y) : x < y;
    });
    for (int64_t i = 0; i < k; ++i) {
      int32_t& by = taken_[order_[i]];
      by = by == 0 ? static_cast<int32_t>(g + 1) : kConflict;
    }
  }

  const SimOtaAssign& p_;
  int64_t n_ = 0;
  std::vector<int64_t> candidates_;
  std::vector<double> overlaps_, costs_;  // [boxes, candidates]
  std::vector<ClassTerms> terms_;         // of one candidate, [classes]
  std::vector<double> largest_;
  std::vector<int64_t> order_;
  std::vector<int32_t> taken_;  // by candidate: the box that took it + 1, 0 none, kConflict several
  std::vector<int32_t> best_;   // by candidate: the cheapest box
};

}  // namespace

void simota_assign(const SimOtaAssign& p) {
  parallel_for(p.batch, 1, [&](int64_t begin, int64_t end) {
    SimOtaImage image(p);
    for (int64_t n = begin; n < end; ++n) image.run(n);
  });
}

void simota_candidates(const SimOtaCandidates& candidates) {
  const SimOtaAssign& p = candidates.problem;
  parallel_for(p.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      for (int64_t a = 0; a < p.anchors; ++a)
        candidates.candidate[n * p.anchors + a] = is_candidate(p, n, a) ? 1 : 0;
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
