// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/assign.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"
#include "kernels/math/assign.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

using namespace assigning;

// The assignment of one image. The vectors are reused for the next image.
class ImageAssigner {
 public:
  explicit ImageAssigner(const TaskAlignedAssign& p) : p_(p) {}

  void run(int64_t n) {
    n_ = n;
    boxes_ = p_.gt_begin[n + 1] - p_.gt_begin[n];
    assigned_ = p_.assigned + n * p_.anchors;
    target_ = p_.target + n * p_.anchors;
    std::fill_n(assigned_, p_.anchors, -1);
    std::fill_n(target_, p_.anchors, 0.0);
    positives_.clear();
    conflicts_.clear();
    for (int64_t g = 0; g < boxes_; ++g) select(static_cast<int32_t>(g));
    for (const int64_t a : conflicts_) assigned_[a] = closest_box(a);
    score();
  }

 private:
  struct Aligned {
    int64_t anchor;
    double value;
  };
  static constexpr int32_t kConflict = -2;

  const double* gt(int64_t g) const { return p_.gt_boxes + 4 * (p_.gt_begin[n_] + g); }
  const double* pred(int64_t a) const { return p_.pred_boxes + 4 * (n_ * p_.anchors + a); }

  double alignment(int64_t a, int64_t g, double overlap) const {
    return Alignment{p_.alpha, p_.beta, p_.logits}(
        scores_at(p_.scores, n_, a)[p_.gt_classes[p_.gt_begin[n_] + g]], overlap);
  }

  void claim(int64_t a, int32_t g) {
    if (assigned_[a] == -1) {
      assigned_[a] = g;
      positives_.push_back(a);
    } else if (assigned_[a] != kConflict) {
      assigned_[a] = kConflict;
      conflicts_.push_back(a);
    }
  }

  // Claims the topk anchors of box g.
  void select(int32_t g) {
    const double* box = gt(g);
    aligned_.clear();
    zeros_.clear();
    for (int64_t a = 0; a < p_.anchors; ++a) {
      if (!inside(p_.points + 2 * a, box, p_.eps)) continue;
      const double t = alignment(a, g, iou(box, pred(a), p_.eps));
      // Anchors before this one that are 0: those outside count as 0 too.
      if (t == 0.0)
        zeros_.push_back({a, static_cast<double>(a - static_cast<int64_t>(aligned_.size()))});
      else
        aligned_.push_back({a, t});
    }
    const int64_t found = static_cast<int64_t>(aligned_.size());
    const int64_t take = std::min(p_.topk, found);
    std::partial_sort(aligned_.begin(), aligned_.begin() + take, aligned_.end(),
                      [](const Aligned& x, const Aligned& y) {
                        return x.value != y.value ? x.value > y.value : x.anchor < y.anchor;
                      });
    for (int64_t i = 0; i < take; ++i) claim(aligned_[i].anchor, g);
    for (const Aligned& z : zeros_)
      if (z.value < static_cast<double>(p_.topk - take)) claim(z.anchor, g);
  }

  int32_t closest_box(int64_t a) const {
    int32_t best = 0;
    double best_overlap = -1.0;
    for (int64_t g = 0; g < boxes_; ++g) {
      const double u = iou(gt(g), pred(a), p_.eps);
      if (u > best_overlap) {
        best_overlap = u;
        best = static_cast<int32_t>(g);
      }
    }
    return best;
  }

  void score() {
    max_overlap_.assign(boxes_, 0.0);
    max_alignment_.assign(boxes_, 0.0);
    for (const int64_t a : positives_) {
      const int32_t g = assigned_[a];
      const double u = iou(gt(g), pred(a), p_.eps);
      target_[a] = alignment(a, g, u);
      max_overlap_[g] = std::max(max_overlap_[g], u);
      max_alignment_[g] = std::max(max_alignment_[g], target_[a]);
    }
    for (const int64_t a : positives_) {
      const int32_t g = assigned_[a];
      target_[a] = target_[a] * max_overlap_[g] / (max_alignment_[g] + p_.eps);
    }
  }

  const TaskAlignedAssign& p_;
  int64_t n_ = 0;
  int64_t boxes_ = 0;
  int32_t* assigned_ = nullptr;
  double* target_ = nullptr;
  std::vector<Aligned> aligned_;
  std::vector<Aligned> zeros_;  // value: its position among all anchors of alignment 0
  std::vector<int64_t> positives_;
  std::vector<int64_t> conflicts_;
  std::vector<double> max_overlap_;
  std::vector<double> max_alignment_;
};

}  // namespace

void task_aligned_assign(const TaskAlignedAssign& p) {
  parallel_for(p.batch, 1, [&](int64_t begin, int64_t end) {
    ImageAssigner assigner(p);
    for (int64_t n = begin; n < end; ++n) assigner.run(n);
  });
}

void anchors_inside(const AnchorsInside& p) {
  parallel_for(p.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      uint8_t* out = p.inside + n * p.anchors;
      std::fill_n(out, p.anchors, uint8_t{0});
      for (int64_t g = p.gt_begin[n]; g < p.gt_begin[n + 1]; ++g) {
        const double* box = p.gt_boxes + 4 * g;
        for (int64_t a = 0; a < p.anchors; ++a)
          out[a] |= static_cast<uint8_t>(assigning::inside(p.points + 2 * a, box, p.eps));
      }
    }
  });
}

}  // namespace sextant::kernels::SEXTANT_CPU
