#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/config.h"
#include "kernels/detection/nms.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

std::vector<Detection> random_candidates(int64_t n, uint64_t seed, int classes, double size) {
  Rng rng(seed);
  std::vector<Detection> out;
  for (int64_t i = 0; i < n; ++i) {
    Detection d;
    d.x1 = static_cast<float>(rng.uniform(0, size));
    d.y1 = static_cast<float>(rng.uniform(0, size));
    d.x2 = d.x1 + static_cast<float>(rng.uniform(5, 120));
    d.y2 = d.y1 + static_cast<float>(rng.uniform(5, 120));
    d.score = static_cast<float>(rng.uniform(0.03, 1));
    d.class_id = static_cast<int32_t>(rng.below(classes));
    out.push_back(d);
  }
  return out;
}

double iou(const Detection& a, const Detection& b) {
  const auto inter_w = static_cast<double>(std::min(a.x2, b.x2) - std::max(a.x1, b.x1));
  const auto inter_h = static_cast<double>(std::min(a.y2, b.y2) - std::max(a.y1, b.y1));
  const double inter = std::max(inter_w, 0.0) * std::max(inter_h, 0.0);
  const auto area = [](const Detection& d) {
    return static_cast<double>(d.x2 - d.x1) * static_cast<double>(d.y2 - d.y1);
  };
  return inter / (area(a) + area(b) - inter);
}

// Greedy suppression class by class, without offsets: each box against every kept one.
std::vector<Detection> plain(std::vector<Detection> boxes, const NmsOptions& o) {
  std::stable_sort(boxes.begin(), boxes.end(),
                   [](const Detection& a, const Detection& b) { return a.score > b.score; });
  std::vector<Detection> kept;
  for (const Detection& d : boxes) {
    const bool hit = std::any_of(kept.begin(), kept.end(), [&](const Detection& k) {
      return (o.agnostic || k.class_id == d.class_id) && iou(k, d) > o.iou;
    });
    if (!hit) kept.push_back(d);
  }
  if (static_cast<int64_t>(kept.size()) > o.max_det) kept.resize(o.max_det);
  return kept;
}

bool same(const Detection& a, const Detection& b) {
  return a.x1 == b.x1 && a.y1 == b.y1 && a.x2 == b.x2 && a.y2 == b.y2 && a.score == b.score &&
         a.class_id == b.class_id;
}

Detection box(float x1, float y1, float x2, float y2, float score, int32_t class_id = 0) {
  return {x1, y1, x2, y2, score, class_id};
}

}  // namespace

TEST_CASE("non_max_suppression matches the official one to the row") {
  for (const std::string& name : test::fixture_names("post/nms_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    const Tensor& prediction = f.at("input.prediction");
    NmsOptions o;
    o.conf = std::stof(f.meta("conf_thres"));
    o.iou = std::stod(f.meta("iou_thres"));
    o.multi_label = f.meta("multi_label") == "True";
    o.agnostic = f.meta("agnostic") == "True";
    o.max_det = std::stoll(f.meta("max_det"));
    o.max_candidates = std::stoll(f.meta("max_nms"));
    o.class_offset = std::stof(f.meta("max_wh"));
    if (f.meta("classes") != "None")
      o.classes = Json::parse(f.meta("classes")).get<std::vector<int32_t>>();
    const auto found = cpu::non_max_suppression(
        {prediction.f32(), prediction.dim(0), prediction.dim(1), prediction.dim(2) - 5}, o);
    REQUIRE(static_cast<int64_t>(found.size()) == prediction.dim(0));
    for (size_t n = 0; n < found.size(); ++n) {
      const Tensor& want = f.at("output." + std::to_string(n));
      REQUIRE(static_cast<int64_t>(found[n].size()) == want.dim(0));
      for (size_t i = 0; i < found[n].size(); ++i) {
        const Detection& d = found[n][i];
        const float* w = want.f32() + 6 * i;
        CAPTURE(n, i);
        REQUIRE((d.x1 == w[0] && d.y1 == w[1] && d.x2 == w[2] && d.y2 == w[3]));
        REQUIRE(d.score == w[4]);
        REQUIRE(static_cast<float>(d.class_id) == w[5]);
      }
    }
  }
}

TEST_CASE("suppress equals plain greedy suppression") {
  for (uint64_t seed = 0; seed < 6; ++seed)
    for (const bool agnostic : {false, true}) {
      NmsOptions o;
      o.agnostic = agnostic;
      o.class_offset = 1024;  // less rounding than 4096, so that no IoU moves over the threshold
      o.max_det = seed % 2 ? 40 : 5000;
      const auto boxes = random_candidates(1500, seed, 3, 500);
      const auto found = cpu::suppress(boxes, o);
      const auto want = plain(boxes, o);
      REQUIRE(std::equal(want.begin(), want.end(), found.begin(), found.end(), same));
      REQUIRE(found.size() >= 40);
      REQUIRE(found.size() < boxes.size());
    }
}

TEST_CASE("suppress keeps the order of equal scores and takes the best candidates only") {
  NmsOptions o;
  const std::vector<Detection> boxes = {box(0, 0, 10, 10, 0.5f), box(20, 0, 30, 10, 0.5f),
                                        box(40, 0, 50, 10, 0.9f), box(60, 0, 70, 10, 0.5f)};
  auto found = cpu::suppress(boxes, o);
  REQUIRE(found.size() == 4);
  REQUIRE(found[0].x1 == 40);
  REQUIRE(found[1].x1 == 0);
  REQUIRE(found[2].x1 == 20);
  o.max_candidates = 2;
  found = cpu::suppress(boxes, o);
  REQUIRE(found.size() == 2);
  REQUIRE(found[1].x1 == 0);
  o.max_det = 0;
  REQUIRE(cpu::suppress(boxes, o).empty());
  REQUIRE(cpu::suppress(std::vector<Detection>{}, o).empty());
}

TEST_CASE("suppress drops above the threshold, not at it") {
  NmsOptions o;
  o.iou = 0.5;
  // IoU of the two is exactly 1/2.
  std::vector<Detection> boxes = {box(0, 0, 4, 4, 0.9f), box(0, 0, 4, 2, 0.8f)};
  REQUIRE(cpu::suppress(boxes, o).size() == 2);
  o.iou = 0.4999;
  REQUIRE(cpu::suppress(boxes, o).size() == 1);
  boxes[1].class_id = 1;
  REQUIRE(cpu::suppress(boxes, o).size() == 2);
  o.agnostic = true;
  REQUIRE(cpu::suppress(boxes, o).size() == 1);
  o.classes = {1};
  const auto found = cpu::suppress(boxes, o);
  REQUIRE(found.size() == 1);
  REQUIRE(found[0].class_id == 1);
}

TEST_CASE("suppress leaves boxes without size alone") {
  NmsOptions o;
  const std::vector<Detection> boxes = {box(5, 5, 5, 5, 0.9f), box(5, 5, 5, 5, 0.8f)};
  REQUIRE(cpu::suppress(boxes, o).size() == 2);  // 0/0 is above no threshold
}

TEST_CASE("append_candidates: labels and thresholds") {
  const std::vector<float> row = {10, 20, 4, 6, 0.5f, 0.3f, 0.9f, 0.9f};
  std::vector<Detection> out;
  cpu::append_candidates(row.data(), 3, 0.1f, true, out);
  REQUIRE(out.size() == 3);
  REQUIRE(same(out[0], box(8, 17, 12, 23, 0.3f * 0.5f, 0)));
  REQUIRE(same(out[2], box(8, 17, 12, 23, 0.9f * 0.5f, 2)));
  out.clear();
  cpu::append_candidates(row.data(), 3, 0.1f, false, out);
  REQUIRE(out.size() == 1);
  REQUIRE(out[0].class_id == 1);  // the first of two equal
  out.clear();
  cpu::append_candidates(row.data(), 3, 0.45f, true, out);  // the product is not above
  cpu::append_candidates(row.data(), 3, 0.5f, true, out);   // nor is objectness
  REQUIRE(out.empty());
  const std::vector<float> bad = {1, 1, 1, 1, 1, std::nanf(""), std::nanf(""), std::nanf("")};
  cpu::append_candidates(bad.data(), 3, 0.1f, true, out);
  REQUIRE(out.empty());
}
