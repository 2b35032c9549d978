// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/assign.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "kernels/detection/atss.h"
#include "kernels/detection/simota.h"
#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

struct Level {
  int64_t h, w;
  double stride;
};

// Anchors of some levels, boxes of some images, predictions around them.
struct AssignScene {
  std::vector<double> points, strides, anchor_boxes, pred_boxes, gt_boxes;
  std::vector<int64_t> level_anchors, gt_begin = {0};
  std::vector<int32_t> gt_classes;
  std::vector<std::vector<float>> scores, objectness;  // a block a level
  int64_t batch = 0, anchors = 0, classes = 0;

  AssignScene(const std::vector<Level>& levels, const std::vector<int64_t>& boxes_of_image,
              int64_t class_count, uint64_t seed)
      : batch(static_cast<int64_t>(boxes_of_image.size())), classes(class_count) {
    Rng rng(seed);
    double width = 0, height = 0;
    for (const Level& l : levels) {
      width = std::max(width, static_cast<double>(l.w) * l.stride);
      height = std::max(height, static_cast<double>(l.h) * l.stride);
      level_anchors.push_back(l.h * l.w);
      for (int64_t i = 0; i < l.h * l.w; ++i) {
        const double x = (static_cast<double>(i % l.w) + 0.5) * l.stride,
                     y = (static_cast<double>(i / l.w) + 0.5) * l.stride, r = 2.5 * l.stride;
        points.insert(points.end(), {x, y});
        strides.push_back(l.stride);
        anchor_boxes.insert(anchor_boxes.end(), {x - r, y - r, x + r, y + r});
      }
      anchors += l.h * l.w;
      std::vector<float> block;
      for (int64_t i = 0; i < batch * l.h * l.w * classes; ++i)
        block.push_back(static_cast<float>(rng.uniform(0.01, 0.99)));
      scores.push_back(block);
      objectness.push_back(random_values(batch * l.h * l.w, seed + 40, -3, 3));
    }
    for (const int64_t count : boxes_of_image) {
      for (int64_t g = 0; g < count; ++g) {
        const double w = rng.uniform(0.05, 0.7) * width, h = rng.uniform(0.05, 0.7) * height,
                     x = rng.uniform(0, 1) * (width - w), y = rng.uniform(0, 1) * (height - h);
        gt_boxes.insert(gt_boxes.end(), {x, y, x + w, y + h});
        gt_classes.push_back(static_cast<int32_t>(rng.below(classes)));
      }
      gt_begin.push_back(gt_begin.back() + count);
    }
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t a = 0; a < anchors; ++a)
        for (int64_t i = 0; i < 4; ++i) {
          const double around = points[static_cast<size_t>(2 * a + i % 2)];
          pred_boxes.push_back(around + (i < 2 ? -1 : 1) * rng.uniform(0.05, 0.4) * width);
        }
  }
  int64_t boxes() const { return gt_begin.back(); }
  const double* gt(int64_t box) const { return gt_boxes.data() + 4 * box; }
  const double* pred(int64_t n, int64_t a) const {
    return pred_boxes.data() + 4 * (n * anchors + a);
  }
};

double overlap_of(const double* a, const double* b, double eps) {
  const auto side = [&](int i) {
    return std::max(0.0, std::min(a[i + 2], b[i + 2]) - std::max(a[i], b[i]));
  };
  const auto area = [](const double* c) { return (c[2] - c[0]) * (c[3] - c[1]); };
  const double inter = side(0) * side(1);
  return inter / (area(a) + area(b) - inter + eps);
}
bool is_inside(const double* p, const double* box, double eps) {
  return p[0] - box[0] > eps && p[1] - box[1] > eps && box[2] - p[0] > eps && box[3] - p[1] > eps;
}

struct AssignResult {
  std::vector<int32_t> assigned;
  std::vector<double> target;
  explicit AssignResult(const AssignScene& s)
      : assigned(static_cast<size_t>(s.batch * s.anchors), -7),
        target(assigned.size(), std::nan("")) {}
};

// Boxes claim anchors (`claims` of each box); conflicts go to the largest `overlap(box, anchor)`.
template <class Overlap>
void settle(const AssignScene& s, const std::vector<std::vector<int64_t>>& claims,
            const Overlap& overlap, AssignResult& out) {
  std::fill(out.assigned.begin(), out.assigned.end(), -1);
  std::fill(out.target.begin(), out.target.end(), 0.0);
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t a = 0; a < s.anchors; ++a) {
      std::vector<int64_t> claimants;
      const int64_t first = s.gt_begin[static_cast<size_t>(n)],
                    last = s.gt_begin[static_cast<size_t>(n) + 1];
      for (int64_t b = first; b < last; ++b) {
        const auto& c = claims[static_cast<size_t>(b)];
        if (std::find(c.begin(), c.end(), a) != c.end()) claimants.push_back(b);
      }
      if (claimants.empty()) continue;
      int64_t winner = claimants[0];
      if (claimants.size() > 1) {
        winner = first;
        for (int64_t b = first; b < last; ++b)
          if (overlap(n, b, a) > overlap(n, winner, a)) winner = b;
      }
      out.assigned[static_cast<size_t>(n * s.anchors + a)] = static_cast<int32_t>(winner - first);
    }
}

// Task-aligned assignment by sorting all anchors.
AssignResult reference_tal(const AssignScene& s, const TaskAlignedAssign& p) {
  const auto alignment = [&](int64_t n, int64_t b, int64_t a) {
    int64_t at = a;
    size_t l = 0;
    while (at >= s.level_anchors[l]) at -= s.level_anchors[l++];
    double score = s.scores[l][static_cast<size_t>((n * s.level_anchors[l] + at) * s.classes +
                                                   s.gt_classes[static_cast<size_t>(b)])];
    if (p.logits) score = 1 / (1 + std::exp(-score));
    return std::pow(score, p.alpha) * std::pow(overlap_of(s.gt(b), s.pred(n, a), p.eps), p.beta);
  };
  std::vector<std::vector<int64_t>> claims;
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t b = s.gt_begin[static_cast<size_t>(n)]; b < s.gt_begin[static_cast<size_t>(n) + 1];
         ++b) {
      std::vector<double> value;
      for (int64_t a = 0; a < s.anchors; ++a)
        value.push_back(is_inside(s.points.data() + 2 * a, s.gt(b), p.eps) ? alignment(n, b, a)
                                                                           : 0.0);
      std::vector<int64_t> order(value.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int64_t x, int64_t y) {
        return value[static_cast<size_t>(x)] > value[static_cast<size_t>(y)];
      });
      order.resize(static_cast<size_t>(std::min(p.topk, s.anchors)));
      std::erase_if(order,
                    [&](int64_t a) { return !is_inside(s.points.data() + 2 * a, s.gt(b), p.eps); });
      claims.push_back(order);
    }
  AssignResult out(s);
  const auto overlap = [&](int64_t n, int64_t b, int64_t a) {
    return overlap_of(s.gt(b), s.pred(n, a), p.eps);
  };
  settle(s, claims, overlap, out);
  std::vector<double> most_overlap(claims.size(), 0.0), most_alignment(claims.size(), 0.0);
  const auto each = [&](const auto& f) {
    for (int64_t i = 0; i < s.batch * s.anchors; ++i) {
      const int32_t g = out.assigned[static_cast<size_t>(i)];
      const int64_t n = i / s.anchors;
      if (g >= 0)
        f(n, s.gt_begin[static_cast<size_t>(n)] + g, i % s.anchors,
          out.target[static_cast<size_t>(i)]);
    }
  };
  each([&](int64_t n, int64_t b, int64_t a, double&) {
    const auto k = static_cast<size_t>(b);
    most_overlap[k] = std::max(most_overlap[k], overlap(n, b, a));
    most_alignment[k] = std::max(most_alignment[k], alignment(n, b, a));
  });
  each([&](int64_t n, int64_t b, int64_t a, double& target) {
    const auto k = static_cast<size_t>(b);
    target = alignment(n, b, a) * most_overlap[k] / (most_alignment[k] + p.eps);
  });
  return out;
}

AssignResult reference_atss(const AssignScene& s, const AtssAssign& p) {
  const auto anchor_overlap = [&](int64_t, int64_t b, int64_t a) {
    return overlap_of(s.gt(b), s.anchor_boxes.data() + 4 * a, 0.0);
  };
  std::vector<std::vector<int64_t>> claims;
  for (int64_t b = 0; b < s.boxes(); ++b) {
    const double* box = s.gt(b);
    std::vector<int64_t> candidates;
    int64_t first = 0;
    for (const int64_t count : s.level_anchors) {
      std::vector<int64_t> order(static_cast<size_t>(count));
      std::iota(order.begin(), order.end(), first);
      const auto distance = [&](int64_t a) {
        const double dx = s.points[static_cast<size_t>(2 * a)] - (box[0] + box[2]) / 2,
                     dy = s.points[static_cast<size_t>(2 * a + 1)] - (box[1] + box[3]) / 2;
        return dx * dx + dy * dy;
      };
      std::stable_sort(order.begin(), order.end(),
                       [&](int64_t x, int64_t y) { return distance(x) < distance(y); });
      order.resize(static_cast<size_t>(std::min(p.topk, count)));
      candidates.insert(candidates.end(), order.begin(), order.end());
      first += count;
    }
    double mean = 0, squares = 0;
    const auto count = static_cast<double>(candidates.size());
    for (const int64_t a : candidates) mean += anchor_overlap(0, b, a) / count;
    for (const int64_t a : candidates) squares += std::pow(anchor_overlap(0, b, a) - mean, 2);
    const double threshold = mean + (count > 1 ? std::sqrt(squares / (count - 1)) : 0.0);
    std::erase_if(candidates, [&](int64_t a) {
      return anchor_overlap(0, b, a) <= threshold ||
             !is_inside(s.points.data() + 2 * a, box, p.eps);
    });
    claims.push_back(candidates);
  }
  AssignResult out(s);
  settle(s, claims, anchor_overlap, out);
  for (int64_t i = 0; i < s.batch * s.anchors; ++i) {
    const int64_t n = i / s.anchors;
    const int32_t g = out.assigned[static_cast<size_t>(i)];
    if (g >= 0)
      out.target[static_cast<size_t>(i)] =
          overlap_of(s.gt(s.gt_begin[static_cast<size_t>(n)] + g), s.pred(n, i % s.anchors), p.eps);
  }
  return out;
}

// SimOTA by sorting all candidates.
AssignResult reference_simota(const AssignScene& s, const SimOtaAssign& p) {
  const auto logistic = [](double x) { return 1 / (1 + std::exp(-x)); };
  const auto is_near = [&](int64_t b, int64_t a) {
    const double r = p.radius * s.strides[static_cast<size_t>(a)];
    const double x = (s.gt(b)[0] + s.gt(b)[2]) / 2, y = (s.gt(b)[1] + s.gt(b)[3]) / 2;
    const double square[] = {x - r, y - r, x + r, y + r};
    return is_inside(s.points.data() + 2 * a, square, 0.0);
  };
  const auto in_box = [&](int64_t b, int64_t a) {
    return is_inside(s.points.data() + 2 * a, s.gt(b), 0.0);
  };
  const auto overlap = [&](int64_t n, int64_t b, int64_t a) {
    return overlap_of(s.gt(b), s.pred(n, a), p.eps);
  };
  const auto cost = [&](int64_t n, int64_t b, int64_t a) {
    int64_t at = a;
    size_t l = 0;
    while (at >= s.level_anchors[l]) at -= s.level_anchors[l++];
    const auto place = static_cast<size_t>(n * s.level_anchors[l] + at);
    const double object = p.has_objectness ? logistic(s.objectness[l][place]) : 1.0;
    double sum = 0;
    for (int64_t c = 0; c < s.classes; ++c) {
      const double root = std::sqrt(
          object *
          logistic(s.scores[l][place * static_cast<size_t>(s.classes) + static_cast<size_t>(c)]));
      const bool own = c == s.gt_classes[static_cast<size_t>(b)];
      sum -= std::max(-100.0, std::log(own ? root : 1 - root));
    }
    return sum - p.iou_weight * std::log(overlap(n, b, a) + 1e-8) +
           (in_box(b, a) && is_near(b, a) ? 0.0 : 1e5);
  };
  std::vector<std::vector<int64_t>> claims;
  for (int64_t n = 0; n < s.batch; ++n) {
    const int64_t first = s.gt_begin[static_cast<size_t>(n)],
                  last = s.gt_begin[static_cast<size_t>(n) + 1];
    std::vector<int64_t> candidates;
    for (int64_t a = 0; a < s.anchors; ++a) {
      bool any = false;
      for (int64_t b = first; b < last; ++b) any = any || in_box(b, a) || is_near(b, a);
      if (any) candidates.push_back(a);
    }
    for (int64_t b = first; b < last; ++b) {
      std::vector<double> overlaps;
      for (const int64_t a : candidates) overlaps.push_back(overlap(n, b, a));
      std::sort(overlaps.rbegin(), overlaps.rend());
      double sum = 0;
      for (size_t i = 0; i < std::min(overlaps.size(), static_cast<size_t>(p.dynamic_k)); ++i)
        sum += overlaps[i];
      std::vector<std::pair<double, int64_t>> order;  // of equal costs the lower anchor is first
      for (const int64_t a : candidates) order.emplace_back(cost(n, b, a), a);
      std::sort(order.begin(), order.end());
      order.resize(std::min(order.size(), std::max<size_t>(1, static_cast<size_t>(sum))));
      claims.emplace_back();
      for (const auto& [value, a] : order) claims.back().push_back(a);
    }
  }
  AssignResult out(s);
  settle(
      s, claims, [&](int64_t n, int64_t b, int64_t a) { return -cost(n, b, a); }, out);
  for (int64_t i = 0; i < s.batch * s.anchors; ++i) {
    const int64_t n = i / s.anchors;
    const int32_t g = out.assigned[static_cast<size_t>(i)];
    if (g >= 0)
      out.target[static_cast<size_t>(i)] =
          overlap(n, s.gt_begin[static_cast<size_t>(n)] + g, i % s.anchors);
  }
  return out;
}

double worst_target(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = a.size() == b.size() ? 0 : 1e300;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double error = std::abs(a[i] - b[i]);
    worst = std::isnan(error) ? 1e300 : std::max(worst, error);
  }
  return worst;
}

// A scene on the device.
struct DeviceScene {
  DeviceArrayOf<double> points, strides, anchor_boxes, pred_boxes, gt_boxes;
  DeviceArrayOf<int64_t> gt_begin;
  DeviceArrayOf<int32_t> gt_classes;
  std::vector<std::unique_ptr<DeviceArray>> scores, objectness;
  DeviceArrayOf<int32_t> assigned;
  DeviceArrayOf<double> target;

  DeviceScene(TestGpu& b, const AssignScene& s)
      : points(b, s.points),
        strides(b, s.strides),
        anchor_boxes(b, s.anchor_boxes),
        pred_boxes(b, s.pred_boxes),
        gt_boxes(b, s.gt_boxes),
        gt_begin(b, s.gt_begin),
        gt_classes(b, s.gt_classes),
        assigned(b, AssignResult(s).assigned),
        target(b, AssignResult(s).target) {
    for (const auto& block : s.scores) scores.push_back(std::make_unique<DeviceArray>(b, block));
    for (const auto& block : s.objectness)
      objectness.push_back(std::make_unique<DeviceArray>(b, block));
  }
  void require_unchanged() const {
    points.require_unchanged();
    strides.require_unchanged();
    anchor_boxes.require_unchanged();
    pred_boxes.require_unchanged();
    gt_boxes.require_unchanged();
    gt_begin.require_unchanged();
    gt_classes.require_unchanged();
    for (const auto& s : scores) s->require_unchanged();
    for (const auto& o : objectness) o->require_unchanged();
  }
};

void point_to(LabelAssign& p, const AssignScene& s, AssignResult& out) {
  p.pred_boxes = s.pred_boxes.data();
  p.points = s.points.data();
  p.gt_boxes = s.gt_boxes.data();
  p.gt_classes = s.gt_classes.data();
  p.gt_begin = s.gt_begin.data();
  p.boxes = s.boxes();
  p.batch = s.batch;
  p.anchors = s.anchors;
  p.assigned = out.assigned.data();
  p.target = out.target.data();
}
void point_to(LabelAssign& p, const DeviceScene& d) {
  p.pred_boxes = d.pred_boxes.data();
  p.points = d.points.data();
  p.gt_boxes = d.gt_boxes.data();
  p.gt_classes = d.gt_classes.data();
  p.gt_begin = d.gt_begin.data();
  p.assigned = d.assigned.data();
  p.target = d.target.data();
}

void check_results(const DeviceScene& d, const AssignResult& ref, const AssignResult& twin) {
  CHECK(twin.assigned == ref.assigned);
  CHECK(d.assigned.values() == ref.assigned);
  CHECK(worst_target(d.target.values(), ref.target) < 1e-12);
  CHECK(worst_target(d.target.values(), twin.target) < 1e-12);
  d.require_unchanged();
}

void check_tal(TestGpu& gpu, const AssignScene& s, int64_t topk, bool logits, double beta) {
  CAPTURE(s.batch, s.anchors, s.boxes(), s.classes, topk, logits, beta);
  TaskAlignedAssign p;
  p.blocks = static_cast<int>(s.scores.size());
  p.classes = s.classes;
  p.topk = topk;
  p.logits = logits;
  p.beta = beta;
  AssignResult twin(s);
  for (size_t l = 0; l < s.scores.size(); ++l)
    p.scores[l] = {s.scores[l].data(), s.level_anchors[l], s.level_anchors[l] * s.classes,
                   s.classes};
  point_to(p, s, twin);
  host_kernels().task_aligned_assign(p);
  const AssignResult ref = reference_tal(s, p);
  std::vector<uint8_t> inside(ref.assigned.size(), 9);
  host_kernels().anchors_inside({p, inside.data()});

  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const DeviceScene d(gpu, s);
    for (size_t l = 0; l < s.scores.size(); ++l) p.scores[l].data = d.scores[l]->data();
    point_to(p, d);
    start(gpu, cuda::task_aligned_assign, p);
    check_results(d, ref, twin);
    const DeviceArrayOf<uint8_t> inside_d(gpu, std::vector<uint8_t>(inside.size(), 9));
    start(gpu, cuda::anchors_inside, {p, inside_d.data()});
    CHECK(inside_d.values() == inside);
  }
}

void check_atss(TestGpu& gpu, const AssignScene& s, int64_t topk) {
  CAPTURE(s.batch, s.anchors, s.boxes(), topk);
  AtssAssign p;
  std::copy(s.level_anchors.begin(), s.level_anchors.end(), p.level_anchors.begin());
  p.levels = static_cast<int>(s.level_anchors.size());
  p.topk = topk;
  AssignResult twin(s);
  point_to(p, s, twin);
  p.anchor_boxes = s.anchor_boxes.data();
  host_kernels().atss_assign(p);
  const AssignResult ref = reference_atss(s, p);
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const DeviceScene d(gpu, s);
    point_to(p, d);
    p.anchor_boxes = d.anchor_boxes.data();
    start(gpu, cuda::atss_assign, p);
    check_results(d, ref, twin);
  }
}

void check_simota(TestGpu& gpu, const AssignScene& s, int64_t dynamic_k, bool objectness) {
  CAPTURE(s.batch, s.anchors, s.boxes(), s.classes, dynamic_k, objectness);
  SimOtaAssign p;
  p.classes = s.classes;
  p.dynamic_k = dynamic_k;
  p.has_objectness = objectness;
  p.strides = s.strides.data();
  AssignResult twin(s);
  point_to(p, s, twin);
  for (size_t l = 0; l < s.scores.size(); ++l) {
    const int64_t count = s.level_anchors[l];
    p.scores[l] = {s.scores[l].data(), count, count * s.classes, s.classes};
    if (objectness) p.objectness[l] = {s.objectness[l].data(), count, count, 1};
  }
  host_kernels().simota_assign(p);
  const AssignResult ref = reference_simota(s, p);
  std::vector<uint8_t> candidate(ref.assigned.size(), 9);
  host_kernels().simota_candidates({p, candidate.data()});
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const DeviceScene d(gpu, s);
    point_to(p, d);
    p.strides = d.strides.data();
    for (size_t l = 0; l < s.scores.size(); ++l) {
      p.scores[l].data = d.scores[l]->data();
      if (objectness) p.objectness[l].data = d.objectness[l]->data();
    }
    start(gpu, cuda::simota_assign, p);
    check_results(d, ref, twin);
    const DeviceArrayOf<uint8_t> candidate_d(gpu, std::vector<uint8_t>(candidate.size(), 9));
    start(gpu, cuda::simota_candidates, {p, candidate_d.data()});
    CHECK(candidate_d.values() == candidate);
  }
}

}  // namespace

// Task-aligned and ATSS assignment: equal assignments.
KERNEL_CASE("assignment kernels") {
  const std::vector<Level> one = {{1, 1, 32}};
  const std::vector<Level> three = {{16, 16, 8}, {8, 8, 16}, {4, 4, 32}};
  std::vector<AssignScene> scenes;
  scenes.emplace_back(one, std::vector<int64_t>{1}, 1, 1);
  scenes.emplace_back(one, std::vector<int64_t>{0, 2}, 3, 2);
  scenes.emplace_back(three, std::vector<int64_t>{0, 17, 1}, 17, 3);
  scenes.emplace_back(three, std::vector<int64_t>{24}, 3, 4);  // many conflicts
  scenes.emplace_back(three, std::vector<int64_t>{0}, 1, 5);
  // Equal predictions: the lower anchors win. Scores of 0: places are left over.
  AssignScene equal(three, {3, 2}, 2, 6);
  for (int64_t i = 0; i < equal.batch * equal.anchors; ++i)
    for (size_t k = 0; k < 4; ++k)
      equal.pred_boxes[4 * static_cast<size_t>(i) + k] = k < 2 ? 10.0 : 120.0;
  for (auto& block : equal.scores) std::fill(block.begin(), block.end(), 0.5f);
  scenes.push_back(equal);
  AssignScene zero(three, {2, 1}, 2, 7);
  zero.gt_boxes[0] = zero.gt_boxes[1] = -1.0;  // the first anchors are inside
  for (auto& block : zero.scores)
    for (size_t i = 0; i < block.size(); ++i) block[i] = i % 97 == 5 ? 0.5f : 0.0f;
  scenes.push_back(zero);
  for (const AssignScene& s : scenes) {
    check_tal(gpu, s, 13, false, 6.0);
    check_atss(gpu, s, 9);
    check_simota(gpu, s, 10, false);
  }
  check_tal(gpu, scenes[2], 4, true, 2.5);
  check_tal(gpu, scenes[4], 1, false, 6.0);
  check_tal(gpu, scenes[6], 32, false, 6.0);
  check_atss(gpu, scenes[2], 1);
  check_simota(gpu, scenes[2], 32, true);
  check_simota(gpu, scenes[3], 1, true);
  check_simota(gpu, scenes[1], 0, false);
  TaskAlignedAssign p;
  p.topk = 33;
  CHECK(error_of([&] { start(gpu, cuda::task_aligned_assign, p); }) ==
        "task_aligned_assign: topk 33, must be 0 to 32");
  SimOtaAssign q;
  q.dynamic_k = 33;
  CHECK(error_of([&] { start(gpu, cuda::simota_assign, q); }) ==
        "simota_assign: dynamic_k 33, must be 0 to 32");
}

}  // namespace sextant::test
