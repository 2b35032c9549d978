// SPDX-License-Identifier: Apache-2.0
#include "data/metrics/image_score.h"

#include <algorithm>
#include <numeric>

namespace sextant::data {
namespace {

double shared_area(const CocoBox& a, const CocoBox& b) {
  const double w = std::min(a.x + a.w, b.x + b.w) - std::max(a.x, b.x);
  const double h = std::min(a.y + a.h, b.y + b.h) - std::max(a.y, b.y);
  return w > 0 && h > 0 ? w * h : 0;
}

}  // namespace

bool in_a_crowd(const ImageEval& image, const Detection& d) {
  return std::ranges::any_of(image.truths, [&](const GroundTruth& t) {
    return t.crowd && t.class_id == d.class_id &&
           shared_area(t.box, d.box) >= 0.5 * d.box.w * d.box.h;
  });
}

double box_iou(const CocoBox& a, const CocoBox& b) {
  const double both = shared_area(a, b);
  return both > 0 ? both / (a.w * a.h + b.w * b.h - both) : 0;
}

double ImageScore::f1() const {
  const auto all = static_cast<double>(2 * rights + wrongs + missed);
  return all > 0 ? 2 * static_cast<double>(rights) / all : 1;
}

ImageScore score_image(const ImageEval& image, double confidence, double iou) {
  ImageScore s;
  s.shown.resize(image.detections.size());
  s.right.resize(image.detections.size());
  for (const GroundTruth& t : image.truths) s.found.push_back(t.crowd);
  std::vector<size_t> order(image.detections.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater{},
                           [&](size_t i) { return image.detections[i].score; });
  for (const size_t i : order) {
    const Detection& d = image.detections[i];
    if (d.score < confidence) break;
    s.shown[i] = true;
    double most = iou;
    size_t best = image.truths.size();
    for (size_t t = 0; t < image.truths.size(); ++t) {
      if (s.found[t] || image.truths[t].class_id != d.class_id) continue;
      const double v = box_iou(image.truths[t].box, d.box);
      if (v < most) continue;
      most = v;
      best = t;
    }
    if (best < image.truths.size()) {
      s.found[best] = s.right[i] = true;
      ++s.rights;
    } else if (!in_a_crowd(image, d)) {
      ++s.wrongs;
    }
  }
  s.missed = std::ranges::count(s.found, false);
  return s;
}

}  // namespace sextant::data
