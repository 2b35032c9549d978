// SPDX-License-Identifier: Apache-2.0
#include "data/metrics/label_faults.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "data/metrics/image_score.h"

namespace sextant::data {
namespace {

constexpr double kSame = 0.5;       // IoU of what is one thing
constexpr double kBeside = 0.1;     // of a label and the thing that it misses
constexpr double kRepeated = 0.45;  // of a detection and a thing that is found already
constexpr double kLeastSure = 0.05, kSure = 0.1;  // shares q
constexpr double kNotDetected = 0.3;

// For each class, the scores at which its labels are detected, rising.
class Sureness {
 public:
  explicit Sureness(std::span<const ImageEval> images) {
    for (const ImageEval& image : images)
      for (const GroundTruth& t : image.truths) {
        if (t.crowd) continue;
        double best = -1;
        for (const Detection& d : image.detections)
          if (d.class_id == t.class_id && box_iou(t.box, d.box) >= kSame)
            best = std::max(best, d.score);
        if (best >= 0) scores_[t.class_id].push_back(best);
      }
    for (auto& [c, list] : scores_) std::ranges::sort(list);
  }

  // The share of the class's labels that are detected at most as surely; 0 for a class without any.
  double operator()(const Detection& d) const {
    const auto found = scores_.find(d.class_id);
    if (found == scores_.end()) return 0;
    const auto& list = found->second;
    return static_cast<double>(std::ranges::upper_bound(list, d.score) - list.begin()) /
           static_cast<double>(list.size());
  }

 private:
  std::map<int, std::vector<double>> scores_;
};

bool same_box(const CocoBox& a, const CocoBox& b) {
  return a.x == b.x && a.y == b.y && a.w == b.w && a.h == b.h;
}

// The detections worth a look, the surest first.
std::vector<size_t> kept_detections(const ImageEval& image, const Sureness& q) {
  std::vector<size_t> order(image.detections.size()), kept;
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater{},
                           [&](size_t i) { return image.detections[i].score; });
  for (const size_t i : order) {
    const Detection& d = image.detections[i];
    if (q(d) < kLeastSure || in_a_crowd(image, d)) continue;
    if (std::ranges::none_of(kept, [&](size_t k) {
          const Detection& other = image.detections[k];
          return same_box(other.box, d.box) ||
                 (other.class_id == d.class_id && box_iou(other.box, d.box) >= kSame);
        }))
      kept.push_back(i);
  }
  return kept;
}

class ImageFaults {
 public:
  ImageFaults(const ImageEval& image, size_t index, const Sureness& q, std::vector<LabelFault>& out)
      : image_(image), index_(index), q_(q), out_(out), match_(image.truths.size(), -1) {}

  void find() {
    const std::vector<size_t> kept = kept_detections(image_, q_);
    std::vector<size_t> left;
    for (const size_t d : kept)
      if (!take_label(d) && q_(image_.detections[d]) >= kSure) left.push_back(d);
    std::vector<bool> listed(image_.truths.size());
    std::vector<size_t> shown;
    for (const size_t d : left) {
      if (is_repeated(d, shown)) continue;
      shown.push_back(d);
      if (const int64_t t = disagree(d, listed); t >= 0) listed[static_cast<size_t>(t)] = true;
    }
    for (size_t t = 0; t < image_.truths.size(); ++t)
      if (!image_.truths[t].crowd && !listed[t]) judge_label(t, kept);
  }

 private:
  bool take_label(size_t d) {
    double most = kSame;
    int64_t best = -1;
    for (size_t t = 0; t < match_.size(); ++t) {
      if (match_[t] >= 0 || image_.truths[t].crowd || !same_class(t, d)) continue;
      if (const double v = iou(t, d); v >= most) most = v, best = static_cast<int64_t>(t);
    }
    if (best >= 0) match_[static_cast<size_t>(best)] = static_cast<int64_t>(d);
    return best >= 0;
  }

  bool is_repeated(size_t d, const std::vector<size_t>& shown) const {
    for (size_t t = 0; t < match_.size(); ++t)
      if (match_[t] >= 0 && same_class(t, d) && iou(t, d) >= kRepeated) return true;
    return std::ranges::any_of(shown, [&](size_t s) {
      return box_iou(image_.detections[s].box, image_.detections[d].box) >= kRepeated;
    });
  }

  // Returns the label that the entry is about; -1: overlooked.
  int64_t disagree(size_t d, const std::vector<bool>& listed) {
    const double q = q_(image_.detections[d]);
    double most = 0, nearest = 0;
    int64_t best = -1;
    for (size_t t = 0; t < match_.size(); ++t) {
      if (image_.truths[t].crowd) continue;
      const double v = iou(t, d);
      if (same_class(t, d))
        nearest = std::max(nearest, box_similarity(image_.truths[t].box, image_.detections[d].box));
      if (match_[t] >= 0 || listed[t] || v < (same_class(t, d) ? kBeside : kSame)) continue;
      if (v > most) most = v, best = static_cast<int64_t>(t);
    }
    if (best < 0)
      add(FaultKind::kOverlooked, -1, d, q * (1 - nearest));
    else if (same_class(static_cast<size_t>(best), d))
      add(FaultKind::kMisplaced, best, d, 0.5 + 0.5 * q);
    else
      add(FaultKind::kSwapped, best, d, 0.5 + 0.5 * q * most);
    return best;
  }

  void judge_label(size_t t, const std::vector<size_t>& kept) {
    const auto truth = static_cast<int64_t>(t);
    if (match_[t] >= 0) {
      const auto d = static_cast<size_t>(match_[t]);
      return add(FaultKind::kNone, truth, d, 0.5 * (1 - iou(t, d)));
    }
    double most = 0;
    int64_t best = -1;
    for (const size_t d : kept) {
      if (same_class(t, d) || iou(t, d) < kSame) continue;
      if (const double v = q_(image_.detections[d]) * iou(t, d); v >= most)
        most = v, best = static_cast<int64_t>(d);
    }
    if (best >= 0)
      add(FaultKind::kSwapped, truth, static_cast<size_t>(best), 0.5 + 0.5 * most);
    else
      out_.push_back({FaultKind::kUndetected, index_, truth, -1, kNotDetected});
  }

  void add(FaultKind kind, int64_t truth, size_t d, double suspicion) {
    out_.push_back({kind, index_, truth, static_cast<int64_t>(d), suspicion});
  }
  bool same_class(size_t t, size_t d) const {
    return image_.truths[t].class_id == image_.detections[d].class_id;
  }
  double iou(size_t t, size_t d) const {
    return box_iou(image_.truths[t].box, image_.detections[d].box);
  }

  const ImageEval& image_;
  const size_t index_;
  const Sureness& q_;
  std::vector<LabelFault>& out_;
  std::vector<int64_t> match_;  // of each label, the detection
};

}  // namespace

double box_similarity(const CocoBox& a, const CocoBox& b) {
  const double dx = a.x + a.w / 2 - b.x - b.w / 2, dy = a.y + a.h / 2 - b.y - b.h / 2;
  return 0.9 * box_iou(a, b) + 0.1 * std::exp(-std::hypot(dx, dy) / 10);
}

std::vector<LabelFault> rank_label_faults(std::span<const ImageEval> images) {
  const Sureness q(images);
  std::vector<LabelFault> out;
  for (size_t i = 0; i < images.size(); ++i) ImageFaults(images[i], i, q, out).find();
  std::ranges::stable_sort(out, std::greater{}, &LabelFault::suspicion);
  return out;
}

}  // namespace sextant::data
