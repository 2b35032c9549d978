// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/config.h"
#include "kernels/backend.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

std::vector<Detection> random_candidates(int64_t n, uint64_t seed, int classes, double size) {
  Rng rng(seed);
  // In eighths, so that a box is the same as centre and size.
  const auto eighths = [&](double low, double high) {
    return static_cast<float>(std::round(8 * rng.uniform(low, high)) / 8);
  };
  std::vector<Detection> out;
  for (int64_t i = 0; i < n; ++i) {
    Detection d;
    d.x1 = eighths(0, size);
    d.y1 = eighths(0, size);
    d.x2 = d.x1 + eighths(5, 120);
    d.y2 = d.y1 + eighths(5, 120);
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
std::vector<Detection> plain_nms(std::vector<Detection> boxes, const NmsOptions& o) {
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

// What is kept of the prediction rows of one image.
std::vector<Detection> kept(const std::vector<float>& rows, int64_t classes, const NmsOptions& o) {
  std::vector<Detection> out(static_cast<size_t>(o.max_det));
  int32_t count = -1;
  backend(Device::kCpu)
      .non_max_suppression({.predictions = rows.data(),
                            .batch = 1,
                            .anchors = std::ssize(rows) / (5 + classes),
                            .classes = classes,
                            .options = o,
                            .out = out.data(),
                            .count = &count});
  REQUIRE((count >= 0 && count <= o.max_det));
  out.resize(static_cast<size_t>(count));
  return out;
}

// Each box as a row with the score of its class alone.
std::vector<Detection> suppress(const std::vector<Detection>& boxes, NmsOptions o) {
  constexpr int kClasses = 3;
  std::vector<float> rows;
  for (const Detection& d : boxes) {
    rows.insert(rows.end(), {(d.x1 + d.x2) / 2, (d.y1 + d.y2) / 2, d.x2 - d.x1, d.y2 - d.y1, 1});
    for (int32_t c = 0; c < kClasses; ++c) rows.push_back(c == d.class_id ? d.score : 0.0f);
  }
  o.conf = 0.0f;
  return kept(rows, kClasses, o);
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
    const int64_t batch = prediction.dim(0);
    std::vector<Detection> found(static_cast<size_t>(batch * o.max_det));
    std::vector<int32_t> count(static_cast<size_t>(batch), -1);
    backend(Device::kCpu)
        .non_max_suppression({.predictions = prediction.f32(),
                              .batch = batch,
                              .anchors = prediction.dim(1),
                              .classes = prediction.dim(2) - 5,
                              .options = o,
                              .out = found.data(),
                              .count = count.data()});
    for (int64_t n = 0; n < batch; ++n) {
      const Tensor& want = f.at("output." + std::to_string(n));
      REQUIRE(count[static_cast<size_t>(n)] == want.dim(0));
      for (int64_t i = 0; i < want.dim(0); ++i) {
        const Detection& d = found[static_cast<size_t>(n * o.max_det + i)];
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
      const auto found = suppress(boxes, o);
      const auto want = plain_nms(boxes, o);
      REQUIRE(std::equal(want.begin(), want.end(), found.begin(), found.end(), same));
      REQUIRE(found.size() >= 40);
      REQUIRE(found.size() < boxes.size());
    }
}

TEST_CASE("suppress keeps the order of equal scores and takes the best candidates only") {
  NmsOptions o;
  const std::vector<Detection> boxes = {box(0, 0, 10, 10, 0.5f), box(20, 0, 30, 10, 0.5f),
                                        box(40, 0, 50, 10, 0.9f), box(60, 0, 70, 10, 0.5f)};
  auto found = suppress(boxes, o);
  REQUIRE(found.size() == 4);
  REQUIRE(found[0].x1 == 40);
  REQUIRE(found[1].x1 == 0);
  REQUIRE(found[2].x1 == 20);
  o.max_candidates = 2;
  found = suppress(boxes, o);
  REQUIRE(found.size() == 2);
  REQUIRE(found[1].x1 == 0);
  o.max_det = 0;
  REQUIRE(suppress(boxes, o).empty());
  REQUIRE(suppress(std::vector<Detection>{}, o).empty());
}

TEST_CASE("suppress drops above the threshold, not at it") {
  NmsOptions o;
  o.iou = 0.5;
  // IoU of the two is exactly 1/2.
  std::vector<Detection> boxes = {box(0, 0, 4, 4, 0.9f), box(0, 0, 4, 2, 0.8f)};
  REQUIRE(suppress(boxes, o).size() == 2);
  o.iou = 0.4999;
  REQUIRE(suppress(boxes, o).size() == 1);
  boxes[1].class_id = 1;
  REQUIRE(suppress(boxes, o).size() == 2);
  o.agnostic = true;
  REQUIRE(suppress(boxes, o).size() == 1);
  o.classes = {1};
  const auto found = suppress(boxes, o);
  REQUIRE(found.size() == 1);
  REQUIRE(found[0].class_id == 1);
}

TEST_CASE("suppress leaves boxes without size alone") {
  NmsOptions o;
  const std::vector<Detection> boxes = {box(5, 5, 5, 5, 0.9f), box(5, 5, 5, 5, 0.8f)};
  REQUIRE(suppress(boxes, o).size() == 2);  // 0/0 is above no threshold
}

TEST_CASE("non_max_suppression: labels and thresholds") {
  const std::vector<float> row = {10, 20, 4, 6, 0.5f, 0.3f, 0.9f, 0.9f};
  NmsOptions o;
  o.multi_label = true;
  o.conf = 0.1f;
  auto found = kept(row, 3, o);
  REQUIRE(found.size() == 3);
  REQUIRE(same(found[1], box(8, 17, 12, 23, 0.9f * 0.5f, 2)));
  REQUIRE(same(found[2], box(8, 17, 12, 23, 0.3f * 0.5f, 0)));
  o.conf = 0.45f;  // the product is not above
  REQUIRE(kept(row, 3, o).empty());
  o.conf = 0.5f;  // nor is objectness
  REQUIRE(kept(row, 3, o).empty());
  o.multi_label = false;
  o.conf = 0.1f;
  found = kept(row, 3, o);
  REQUIRE(found.size() == 1);
  REQUIRE(found[0].class_id == 1);  // the first of two equal
  o.multi_label = true;
  REQUIRE(kept({1, 1, 1, 1, 1, std::nanf(""), std::nanf(""), std::nanf("")}, 3, o).empty());
}
