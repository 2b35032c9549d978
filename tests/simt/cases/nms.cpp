// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/nms.h"

#include <algorithm>
#include <numeric>

#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

bool operator==(const Detection& a, const Detection& b) {
  return a.x1 == b.x1 && a.y1 == b.y1 && a.x2 == b.x2 && a.y2 == b.y2 && a.score == b.score &&
         a.class_id == b.class_id;
}

// Greedy suppression of one image, from the definition: IoUs of all pairs in double.
std::vector<Detection> nms_reference(const float* rows, int64_t anchors, int64_t classes,
                                     const NmsOptions& o) {
  std::vector<Detection> all;
  for (int64_t a = 0; a < anchors; ++a) {
    const float* row = rows + a * (5 + classes);
    const float* best = std::max_element(row + 5, row + 5 + classes);
    if (!(row[4] > o.conf) || !(*best > o.conf)) continue;
    for (int64_t c = 0; c < classes; ++c) {
      if (!o.multi_label && row + 5 + c != best) continue;
      const float score = row[5 + c] * row[4];
      const bool wanted = o.classes.empty() || std::count(o.classes.begin(), o.classes.end(), c);
      if (!(score > o.conf) || !wanted) continue;
      all.push_back({row[0] - row[2] / 2, row[1] - row[3] / 2, row[0] + row[2] / 2,
                     row[1] + row[3] / 2, score, static_cast<int32_t>(c)});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Detection& a, const Detection& b) { return a.score > b.score; });
  if (static_cast<int64_t>(all.size()) > o.max_candidates)
    all.resize(static_cast<size_t>(o.max_candidates));
  std::vector<Detection> kept;
  for (const Detection& d : all) {
    if (static_cast<int64_t>(kept.size()) == o.max_det) break;
    const bool suppressed = std::any_of(kept.begin(), kept.end(), [&](const Detection& k) {
      if (!o.agnostic && k.class_id != d.class_id) return false;
      const double w = std::max(0.0f, std::min(k.x2, d.x2) - std::max(k.x1, d.x1)),
                   h = std::max(0.0f, std::min(k.y2, d.y2) - std::max(k.y1, d.y1)),
                   area_k = double{k.x2 - k.x1} * (k.y2 - k.y1),
                   area_d = double{d.x2 - d.x1} * (d.y2 - d.y1);
      return w * h / (area_k + area_d - w * h) > o.iou;
    });
    if (!suppressed) kept.push_back(d);
  }
  return kept;
}

struct RowsShape {
  int64_t batch, anchors, classes;
};

// Boxes on whole pixels: sums and products are exact, equal scores are common.
std::vector<float> predictions(const RowsShape& s, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> out;
  for (int64_t i = 0; i < s.batch * s.anchors; ++i) {
    for (int k = 0; k < 2; ++k) out.push_back(static_cast<float>(rng.below(200)));
    for (int k = 0; k < 2; ++k) out.push_back(static_cast<float>(2 * (rng.below(30) + 1)));
    out.push_back(rng.below(8) == 0 ? 0.125f : 1.0f);
    for (int64_t c = 0; c < s.classes; ++c)
      out.push_back(static_cast<float>(rng.below(64)) / 64.0f);
  }
  return out;
}

void check_nms(TestGpu& gpu, const RowsShape& s, const NmsOptions& o) {
  CAPTURE(s.batch, s.anchors, s.classes, o.conf, o.iou, o.multi_label, o.agnostic, o.max_det,
          o.max_candidates, o.classes.size());
  const std::vector<float> rows = predictions(s, 17);
  std::vector<Detection> twin(static_cast<size_t>(s.batch * o.max_det));
  std::vector<int32_t> twin_count(static_cast<size_t>(s.batch), -9);
  NonMaxSuppression p{rows.data(), s.batch,     s.anchors,        s.classes,
                      o,           twin.data(), twin_count.data()};
  host_kernels().non_max_suppression(p);
  const DeviceArray pd(gpu, rows);
  const Detection nobody{-1, -2, -3, -4, -5, -6};
  const DeviceArrayOf<Detection> out(
      gpu, std::vector<Detection>(static_cast<size_t>(s.batch * o.max_det), nobody));
  const DeviceArrayOf<int32_t> count(gpu, std::vector<int32_t>(static_cast<size_t>(s.batch), -9));
  p.predictions = pd.data();
  p.out = out.data();
  p.count = count.data();
  start(gpu, cuda::non_max_suppression, p);
  const std::vector<int32_t> counts = count.values();
  const std::vector<Detection> found = out.values();
  for (int64_t n = 0; n < s.batch; ++n) {
    const auto ref =
        nms_reference(rows.data() + n * s.anchors * (5 + s.classes), s.anchors, s.classes, o);
    const auto of_cpu = twin.begin() + n * o.max_det;
    const auto from = found.begin() + n * o.max_det;
    REQUIRE(counts[static_cast<size_t>(n)] == static_cast<int32_t>(ref.size()));
    REQUIRE(twin_count[static_cast<size_t>(n)] == static_cast<int32_t>(ref.size()));
    CHECK(std::equal(ref.begin(), ref.end(), of_cpu,
                     [](const auto& a, const auto& b) { return a == b; }));
    CHECK(std::equal(ref.begin(), ref.end(), from,
                     [](const auto& a, const auto& b) { return a == b; }));
    CHECK(std::all_of(from + static_cast<int64_t>(ref.size()), from + o.max_det,
                      [&](const auto& d) { return d == nobody; }));
  }
  pd.require_unchanged();
}

}  // namespace

KERNEL_CASE("non-maximum suppression kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    NmsOptions o;
    o.conf = 0.03f;
    o.iou = 0.65;
    for (const bool multi_label : {false, true}) {
      o.multi_label = multi_label;
      for (const RowsShape& s : {RowsShape{1, 1, 1}, RowsShape{3, 33, 3}, RowsShape{1, 600, 1},
                                 RowsShape{1, 70, 17}, RowsShape{2, 0, 3}, RowsShape{0, 5, 3}})
        check_nms(gpu, s, o);
    }
    const RowsShape s{2, 150, 3};
    for (const bool agnostic : {false, true}) {
      NmsOptions other = o;
      other.agnostic = agnostic;
      other.iou = 0.3;
      other.conf = 0.25f;
      check_nms(gpu, s, other);
      other.max_det = 5;
      check_nms(gpu, s, other);
      other.max_candidates = 20;
      other.max_det = 300;
      check_nms(gpu, s, other);
      other.classes = {2, 0};
      check_nms(gpu, s, other);
      other.conf = 0.999f;  // nothing
      check_nms(gpu, s, other);
    }
    o.max_det = 3000;
    CHECK(error_of([&] {
            start(gpu, cuda::non_max_suppression,
                  {.batch = 1, .anchors = 1, .classes = 1, .options = o});
          }) == "non_max_suppression: max_det 3000, must be 0 to 2048");
  }
}

}  // namespace sextant::test
