// SPDX-License-Identifier: Apache-2.0
#include "data/metrics/coco_map.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/parallel.h"

namespace sextant::data {
namespace {

constexpr int kCocoThresholds = 10;
constexpr int kRecallPoints = 101;
constexpr int kMaxDetections = 100;
constexpr std::array<int, 3> kRankLimits{1, 10, kMaxDetections};
constexpr int kAreas = 4;  // all, small, medium, large
constexpr std::array<std::array<double, 2>, kAreas> kAreaRanges{
    {{0, 1e10}, {0, 1024}, {1024, 9216}, {9216, 1e10}}};

// numpy.linspace: start + i * step, the last value set. Evaluated at compile time, so that no fused
// multiply-add changes the last bit.
template <size_t N>
constexpr std::array<double, N> linspace(double start, double stop) {
  std::array<double, N> v{};
  const double step = (stop - start) / static_cast<double>(N - 1);
  for (size_t i = 0; i < N; ++i) {
    const double offset = static_cast<double>(i) * step;
    v[i] = offset + start;
  }
  v[N - 1] = stop;
  return v;
}
constexpr auto kCocoIous = linspace<kCocoThresholds>(0.5, 0.95);
constexpr auto kRecalls = linspace<kRecallPoints>(0.0, 1.0);

// The ground truth and the best detections of one class in one image.
struct Cell {
  int class_id = 0;
  std::vector<const GroundTruth*> truths;
  std::vector<const Detection*> detections;  // by falling score, at most kMaxDetections
  std::vector<double> iou;                   // [detections, truths]
};

double area_of(const CocoBox& b) { return b.w * b.h; }
double area_of(const GroundTruth& g) { return g.area ? *g.area : area_of(g.box); }

// bbIou of maskApi.c; a crowd's IoU is the share of the detection inside it. `volatile` rounds each
// product separately: with fused multiply-adds, an IoU of exactly 0.5 can come out slightly lower.
double iou_of(const CocoBox& d, const CocoBox& g, bool crowd) {
  const double w = std::fmin(d.w + d.x, g.w + g.x) - std::fmax(d.x, g.x);
  if (w <= 0) return 0;
  const double h = std::fmin(d.h + d.y, g.h + g.y) - std::fmax(d.y, g.y);
  if (h <= 0) return 0;
  const volatile double inter = w * h;
  const volatile double d_area = area_of(d);
  const volatile double g_area = area_of(g);
  const double i = inter;
  return i / (crowd ? d_area : d_area + g_area - i);
}

void check_input(const ImageEval& image, int64_t index, int classes) {
  const auto entry = [&](const char* what, size_t i, int class_id,
                         std::initializer_list<double> v) {
    check(class_id >= 0 && class_id < classes,
          "evaluate_coco: image {}, {} {}: class {} is out of range, there are {}", index, what, i,
          class_id, classes);
    for (const double x : v)
      check(std::isfinite(x), "evaluate_coco: image {}, {} {}: a value is not finite", index, what,
            i);
  };
  for (size_t i = 0; i < image.truths.size(); ++i) {
    const GroundTruth& g = image.truths[i];
    entry("ground truth", i, g.class_id, {g.box.x, g.box.y, g.box.w, g.box.h, area_of(g)});
  }
  for (size_t i = 0; i < image.detections.size(); ++i) {
    const Detection& d = image.detections[i];
    entry("detection", i, d.class_id, {d.box.x, d.box.y, d.box.w, d.box.h, d.score});
  }
}

std::vector<Cell> split_by_class(const ImageEval& image) {
  std::vector<Cell> cells;
  const auto cell = [&](int class_id) -> Cell& {
    for (Cell& c : cells)
      if (c.class_id == class_id) return c;
    return cells.emplace_back(Cell{class_id, {}, {}, {}});
  };
  for (const GroundTruth& g : image.truths) cell(g.class_id).truths.push_back(&g);
  for (const Detection& d : image.detections) cell(d.class_id).detections.push_back(&d);
  for (Cell& c : cells) {
    std::stable_sort(c.detections.begin(), c.detections.end(),
                     [](const Detection* a, const Detection* b) { return a->score > b->score; });
    if (c.detections.size() > kMaxDetections) c.detections.resize(kMaxDetections);
    c.iou.reserve(c.detections.size() * c.truths.size());
    for (const Detection* d : c.detections)
      for (const GroundTruth* g : c.truths) c.iou.push_back(iou_of(d->box, g->box, g->crowd));
  }
  return cells;
}

// One detection after matching; bit t of a mask is IoU threshold t.
struct Judged {
  double score;
  int rank;  // within its image
  uint16_t matched;
  uint16_t ignored;
};

// Greedy matching in one image (COCOeval.evaluateImg). Returns the number of ground-truth boxes
// that count.
int64_t match(const Cell& cell, const std::array<double, 2>& range, std::vector<Judged>& out) {
  const size_t n = cell.truths.size();
  const auto outside = [&](double area) { return area < range[0] || area > range[1]; };
  std::vector<size_t> order;  // truths that count first
  std::vector<bool> ignore(n);
  for (size_t g = 0; g < n; ++g)
    ignore[g] = cell.truths[g]->crowd || outside(area_of(*cell.truths[g]));
  for (const bool ignored : {false, true})
    for (size_t g = 0; g < n; ++g)
      if (ignore[g] == ignored) order.push_back(g);

  const size_t first = out.size();
  for (size_t d = 0; d < cell.detections.size(); ++d)
    out.push_back({cell.detections[d]->score, static_cast<int>(d), 0, 0});
  std::vector<bool> taken(n);
  for (int t = 0; t < kCocoThresholds; ++t) {
    const uint16_t bit = static_cast<uint16_t>(1u << t);
    taken.assign(n, false);
    for (size_t d = 0; d < cell.detections.size(); ++d) {
      double best = kCocoIous[static_cast<size_t>(t)];
      size_t found = n;
      for (const size_t g : order) {
        if (taken[g] && !cell.truths[g]->crowd) continue;
        // A match that counts is never replaced by one that does not.
        if (found < n && !ignore[found] && ignore[g]) break;
        if (cell.iou[d * n + g] < best) continue;
        best = cell.iou[d * n + g];
        found = g;
      }
      if (found == n) continue;
      taken[found] = true;
      Judged& j = out[first + d];
      j.matched |= bit;
      if (ignore[found]) j.ignored |= bit;
    }
  }
  // Unmatched detections outside the area range are ignored.
  for (size_t d = 0; d < cell.detections.size(); ++d)
    if (outside(area_of(cell.detections[d]->box))) {
      Judged& j = out[first + d];
      j.ignored = static_cast<uint16_t>(j.ignored | ~j.matched);
    }
  return std::count(ignore.begin(), ignore.end(), false);
}

// The curve of one class and one area range.
struct Curve {
  int64_t truths = 0;                               // if 0, the rest is undefined
  std::array<double, kCocoThresholds> precision{};  // mean over the recall points
  std::array<std::array<double, kCocoThresholds>, kRankLimits.size()> recall{};
};

double mean_precision(const std::vector<Judged>& judged, uint16_t bit, double truths,
                      std::vector<double>& recall, std::vector<double>& precision) {
  recall.clear();
  precision.clear();
  double tp = 0, fp = 0;
  for (const Judged& j : judged) {
    // An ignored detection repeats the previous point, which changes nothing below.
    if (!(j.ignored & bit)) (j.matched & bit ? tp : fp) += 1;
    recall.push_back(tp / truths);
    precision.push_back(tp / (fp + tp + std::numeric_limits<double>::epsilon()));
  }
  for (size_t i = precision.size(); i-- > 1;)
    precision[i - 1] = std::max(precision[i - 1], precision[i]);
  double sum = 0;
  size_t i = 0;
  for (const double r : kRecalls) {
    while (i < recall.size() && recall[i] < r) ++i;
    if (i == recall.size()) break;
    sum += precision[i];
  }
  return sum / kRecallPoints;
}

Curve accumulate(const std::vector<const Cell*>& cells, const std::array<double, 2>& range) {
  Curve curve;
  std::vector<Judged> judged;
  for (const Cell* c : cells) curve.truths += match(*c, range, judged);
  if (curve.truths == 0) return curve;
  std::stable_sort(judged.begin(), judged.end(),
                   [](const Judged& a, const Judged& b) { return a.score > b.score; });
  std::vector<double> recall, precision;
  const double truths = static_cast<double>(curve.truths);
  for (size_t t = 0; t < kCocoThresholds; ++t) {
    const uint16_t bit = static_cast<uint16_t>(1u << t);
    for (size_t m = 0; m < kRankLimits.size(); ++m) {
      const auto tp = std::count_if(judged.begin(), judged.end(), [&](const Judged& j) {
        return j.rank < kRankLimits[m] && (j.matched & bit) && !(j.ignored & bit);
      });
      curve.recall[m][t] = static_cast<double>(tp) / truths;
    }
    curve.precision[t] = mean_precision(judged, bit, truths, recall, precision);
  }
  return curve;
}

double mean_of(const std::array<double, kCocoThresholds>& v) {
  return std::accumulate(v.begin(), v.end(), 0.0) / kCocoThresholds;
}

// The mean of `f` over the classes that have ground truth; -1 if none has.
template <class F>
double class_mean(const std::vector<Curve>& curves, int area, const F& f) {
  double sum = 0;
  int64_t n = 0;
  for (size_t i = static_cast<size_t>(area); i < curves.size(); i += kAreas) {
    if (curves[i].truths == 0) continue;
    sum += f(curves[i]);
    ++n;
  }
  return n ? sum / static_cast<double>(n) : -1;
}

}  // namespace

CocoMetrics evaluate_coco(std::span<const ImageEval> images, int classes) {
  for (size_t i = 0; i < images.size(); ++i)
    check_input(images[i], static_cast<int64_t>(i), classes);
  std::vector<std::vector<Cell>> cells(images.size());
  parallel_for(static_cast<int64_t>(images.size()), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      cells[static_cast<size_t>(i)] = split_by_class(images[static_cast<size_t>(i)]);
  });
  std::vector<std::vector<const Cell*>> by_class(static_cast<size_t>(classes));
  for (const auto& list : cells)
    for (const Cell& c : list) by_class[static_cast<size_t>(c.class_id)].push_back(&c);
  std::vector<Curve> curves(by_class.size() * kAreas);  // [class, area]
  parallel_for(static_cast<int64_t>(curves.size()), 1, [&](int64_t begin, int64_t end) {
    for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      curves[i] = accumulate(by_class[i / kAreas], kAreaRanges[i % kAreas]);
  });

  const auto precision = [](const Curve& c) { return mean_of(c.precision); };
  const auto recall = [](size_t m) { return [m](const Curve& c) { return mean_of(c.recall[m]); }; };
  CocoMetrics r;
  r.ap = class_mean(curves, 0, precision);
  r.ap50 = class_mean(curves, 0, [](const Curve& c) { return c.precision[0]; });
  r.ap75 = class_mean(curves, 0, [](const Curve& c) { return c.precision[5]; });
  r.ap_small = class_mean(curves, 1, precision);
  r.ap_medium = class_mean(curves, 2, precision);
  r.ap_large = class_mean(curves, 3, precision);
  r.ar_1 = class_mean(curves, 0, recall(0));
  r.ar_10 = class_mean(curves, 0, recall(1));
  r.ar_100 = class_mean(curves, 0, recall(2));
  r.ar_small = class_mean(curves, 1, recall(2));
  r.ar_medium = class_mean(curves, 2, recall(2));
  r.ar_large = class_mean(curves, 3, recall(2));
  for (size_t k = 0; k < by_class.size(); ++k) {
    const Curve& c = curves[k * kAreas];
    ClassMetrics m;
    if (c.truths > 0)
      m = {c.truths, mean_of(c.precision), c.precision[0], c.precision[5], mean_of(c.recall[2])};
    r.per_class.push_back(m);
  }
  return r;
}

std::array<double, 12> CocoMetrics::stats() const {
  return {ap,   ap50,  ap75,   ap_small, ap_medium, ap_large,
          ar_1, ar_10, ar_100, ar_small, ar_medium, ar_large};
}

Json CocoMetrics::to_json(const std::vector<std::string>& names) const {
  const auto value = [](double v) { return v < 0 ? Json(nullptr) : Json(v); };
  Json j;
  j["map50_95"] = value(ap);
  j["map50"] = value(ap50);
  j["map75"] = value(ap75);
  j["map_small"] = value(ap_small);
  j["map_medium"] = value(ap_medium);
  j["map_large"] = value(ap_large);
  j["ar_1"] = value(ar_1);
  j["ar_10"] = value(ar_10);
  j["ar_100"] = value(ar_100);
  j["ar_small"] = value(ar_small);
  j["ar_medium"] = value(ar_medium);
  j["ar_large"] = value(ar_large);
  j["per_class"] = Json::array();
  for (size_t k = 0; k < per_class.size(); ++k) {
    const ClassMetrics& c = per_class[k];
    j["per_class"].push_back({{"name", k < names.size() ? names[k] : std::to_string(k)},
                              {"truths", c.truths},
                              {"map50_95", value(c.ap)},
                              {"map50", value(c.ap50)},
                              {"map75", value(c.ap75)},
                              {"ar_100", value(c.ar_100)}});
  }
  return j;
}

}  // namespace sextant::data
