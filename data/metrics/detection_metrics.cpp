// SPDX-License-Identifier: Apache-2.0
#include "data/metrics/detection_metrics.h"

#include <algorithm>
#include <map>

namespace sextant::data {
namespace {

double overlap(const CocoBox& a, const CocoBox& b) {
  const double w = std::min(a.x + a.w, b.x + b.w) - std::max(a.x, b.x);
  const double h = std::min(a.y + a.h, b.y + b.h) - std::max(a.y, b.y);
  if (w <= 0 || h <= 0) return 0;
  return w * h / (a.w * a.h + b.w * b.h - w * h);
}

// Like numpy.interp: linear between the points; of equal points the last counts.
double interpolate(double x, const std::vector<double>& xs, const std::vector<double>& ys,
                   double left) {
  if (x < xs.front()) return left;
  if (x >= xs.back()) return ys.back();
  const auto i = static_cast<size_t>(std::upper_bound(xs.begin(), xs.end(), x) - xs.begin()) - 1;
  return ys[i] + (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i]) * (x - xs[i]);
}

// The area under the precision envelope, from 0 to just beyond the last recall.
double average_precision(const std::vector<double>& recall, const std::vector<double>& precision) {
  std::vector<double> xs{0.0}, ys{1.0};
  xs.insert(xs.end(), recall.begin(), recall.end());
  ys.insert(ys.end(), precision.begin(), precision.end());
  xs.push_back(recall.back() + 0.01);
  ys.push_back(0.0);
  for (size_t i = ys.size() - 1; i-- > 0;) ys[i] = std::max(ys[i], ys[i + 1]);
  constexpr int kSteps = 100;
  double area = 0, before = interpolate(0, xs, ys, 1.0);
  for (int i = 1; i <= kSteps; ++i) {
    const double now = interpolate(static_cast<double>(i) / kSteps, xs, ys, 1.0);
    area += (before + now) / (2 * kSteps);
    before = now;
  }
  return area;
}

PrecisionRecall::Class curves(int class_id, const std::vector<const MatchedDetection*>& detections,
                              double truths) {
  constexpr size_t kPoints = PrecisionRecall::kPoints;
  PrecisionRecall::Class out{class_id,
                             std::vector<double>(kPoints),
                             std::vector<double>(kPoints),
                             std::vector<double>(kPoints),
                             {}};
  if (detections.empty()) return out;
  std::vector<double> recall(detections.size()), precision(detections.size()), falling;
  for (const auto* d : detections) falling.push_back(-d->score);
  for (size_t t = 0; t < kThresholds; ++t) {
    double right = 0;
    for (size_t i = 0; i < detections.size(); ++i) {
      right += detections[i]->correct[t] ? 1 : 0;
      recall[i] = right / truths;
      precision[i] = right / static_cast<double>(i + 1);
    }
    out.ap[t] = average_precision(recall, precision);
    for (size_t k = 0; t == 0 && k < kPoints; ++k) {
      const double x = -static_cast<double>(k) / (kPoints - 1);
      const double p = interpolate(x, falling, precision, 1.0);
      const double r = interpolate(x, falling, recall, 0.0);
      out.precision[k] = p;
      out.recall[k] = r;
      out.f1[k] = 2 * p * r / (p + r + 1e-16);
    }
  }
  return out;
}

}  // namespace

std::vector<MatchedDetection> match_detections(const ImageEval& image,
                                               const IouThresholds& thresholds) {
  std::vector<MatchedDetection> out;
  struct Best {
    size_t truth = 0;
    double iou = 0;
  };
  std::vector<Best> best;
  for (const auto& d : image.detections) {
    Best b;
    for (size_t t = 0; t < image.truths.size(); ++t) {
      if (image.truths[t].crowd || image.truths[t].class_id != d.class_id) continue;
      // Of equal overlaps the last, as in the official code, which reverses its sort.
      if (const double iou = overlap(image.truths[t].box, d.box); iou >= b.iou) b = {t, iou};
    }
    best.push_back(b);
    out.push_back({d.class_id, d.score, {}});
  }
  for (size_t k = 0; k < kThresholds; ++k) {
    std::vector<bool> taken(image.truths.size());
    for (size_t i = 0; i < out.size(); ++i)
      if (best[i].iou > 0 && best[i].iou >= thresholds[k] && !taken[best[i].truth])
        out[i].correct[k] = taken[best[i].truth] = true;
  }
  return out;
}

std::optional<double> best_confidence(const PrecisionRecall::Class& c) {
  size_t best = 0;
  for (size_t i = 0; i < c.f1.size(); ++i)
    if (c.f1[i] >= c.f1[best]) best = i;
  if (c.f1.empty() || c.f1[best] <= 0) return std::nullopt;
  return static_cast<double>(best) / static_cast<double>(PrecisionRecall::kPoints - 1);
}

PrecisionRecall precision_recall(std::vector<MatchedDetection> detections,
                                 std::span<const int> truth_classes) {
  std::ranges::stable_sort(detections, std::greater{}, &MatchedDetection::score);
  std::map<int, int64_t> truths;
  for (const int c : truth_classes) ++truths[c];
  PrecisionRecall out;
  std::vector<double> mean(PrecisionRecall::kPoints);
  for (const auto& [class_id, count] : truths) {
    std::vector<const MatchedDetection*> of_class;
    for (const auto& d : detections)
      if (d.class_id == class_id) of_class.push_back(&d);
    out.classes.push_back(curves(class_id, of_class, static_cast<double>(count)));
    for (size_t k = 0; k < mean.size(); ++k) mean[k] += out.classes.back().f1[k];
  }
  if (out.classes.empty()) return out;
  for (size_t k = 0; k < mean.size(); ++k)
    if (mean[k] >= mean[out.best]) out.best = k;
  const double n = static_cast<double>(out.classes.size());
  out.confidence = static_cast<double>(out.best) / (PrecisionRecall::kPoints - 1);
  for (const auto& c : out.classes) {
    out.precision += c.precision[out.best] / n;
    out.recall += c.recall[out.best] / n;
    out.f1 += c.f1[out.best] / n;
  }
  return out;
}

void ConfusionMatrix::add(const ImageEval& image, double conf, double iou) {
  struct Pair {
    double iou;
    size_t truth, detection;
  };
  std::vector<Pair> pairs;
  for (size_t d = 0; d < image.detections.size(); ++d) {
    if (image.detections[d].score <= conf) continue;
    Pair best{iou, 0, d};
    for (size_t t = 0; t < image.truths.size(); ++t)
      if (const double v = overlap(image.truths[t].box, image.detections[d].box);
          !image.truths[t].crowd && v > best.iou)
        best = {v, t, d};
    if (best.iou > iou) pairs.push_back(best);
  }
  std::ranges::stable_sort(pairs, std::greater{}, &Pair::iou);
  const int background = size - 1;
  std::vector<bool> found(image.truths.size()), used(image.detections.size());
  for (const Pair& p : pairs) {
    if (found[p.truth]) continue;
    found[p.truth] = used[p.detection] = true;
    ++at(image.detections[p.detection].class_id, image.truths[p.truth].class_id);
  }
  for (size_t t = 0; t < image.truths.size(); ++t)
    if (!found[t] && !image.truths[t].crowd) ++at(background, image.truths[t].class_id);
  for (size_t d = 0; d < image.detections.size() && !pairs.empty(); ++d)
    if (!used[d] && image.detections[d].score > conf)
      ++at(image.detections[d].class_id, background);
}

}  // namespace sextant::data
