// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "data/metrics/label_faults.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;

namespace {

// Ten images with two labels of class 0 and 1 each, all detected where they are, ever more surely.
std::vector<ImageEval> good_images() {
  std::vector<ImageEval> images(10);
  for (size_t i = 0; i < images.size(); ++i) {
    const double score = 0.50 + 0.02 * static_cast<double>(i);
    for (int c = 0; c < 2; ++c) {
      const CocoBox box{100.0 * c, 0, 40, 40};
      images[i].truths.push_back({c, box, {}, false});
      images[i].detections.push_back({c, box, score});
    }
  }
  return images;
}

}  // namespace

TEST_CASE("the similarity of boxes is ObjectLab's") {
  CHECK(box_similarity({0, 0, 10, 10}, {0, 0, 10, 10}) == Approx(1));
  CHECK(box_similarity({0, 0, 10, 10}, {5, 0, 10, 10}) == Approx(0.9 / 3 + 0.1 * std::exp(-0.5)));
}

TEST_CASE("labels that a detector agrees with are not suspicious") {
  const auto ranking = rank_label_faults(good_images());
  REQUIRE(ranking.size() == 20);
  for (const auto& f : ranking) {
    CHECK(f.kind == FaultKind::kNone);
    CHECK(f.suspicion == Approx(0).margin(1e-12));
    CHECK(f.truth == f.detection);
  }
}

TEST_CASE("a swapped, a moved, a dropped and a needless label lead the ranking") {
  std::vector<ImageEval> images = good_images();
  images[7].truths[0].class_id = 1;                              // swapped
  images[8].truths[1].box.x += 20;                               // moved by half a box: IoU 1/3
  images[9].truths.erase(images[9].truths.begin());              // dropped
  images[3].truths.push_back({0, {300, 0, 40, 40}, {}, false});  // nothing is there
  images[2].truths.push_back({0, {400, 0, 90, 90}, {}, true});   // a crowd is no label of its own
  images[2].detections.push_back({0, {420, 20, 20, 20}, 0.9});   // and what is in it no fault
  const auto ranking = rank_label_faults(images);
  REQUIRE(ranking.size() ==
          21);  // 20 labels of which one was dropped, the needless, the overlooked
  for (size_t i = 1; i < ranking.size(); ++i)
    CHECK(ranking[i - 1].suspicion >= ranking[i].suspicion);
  const auto of = [&](size_t image) {
    return *std::ranges::find_if(
        ranking, [&](const auto& f) { return f.image == image && f.kind != FaultKind::kNone; });
  };
  CHECK(of(7).kind == FaultKind::kSwapped);
  CHECK(of(7).truth == 0);
  CHECK(of(7).detection == 0);
  CHECK(of(8).kind == FaultKind::kMisplaced);
  CHECK(of(8).truth == 1);
  CHECK(of(9).kind == FaultKind::kOverlooked);
  CHECK(of(9).truth == -1);
  CHECK(of(9).detection == 0);
  CHECK(of(3).kind == FaultKind::kUndetected);
  CHECK(of(3).suspicion == Approx(0.3));
  for (size_t i = 0; i < 3; ++i) CHECK(ranking[i].image >= 7);
  CHECK(std::ranges::count(ranking, FaultKind::kNone, &LabelFault::kind) == 17);
}

TEST_CASE("unsure detections and repeated ones accuse nobody") {
  std::vector<ImageEval> images = good_images();
  images[0].detections.push_back({0, {300, 0, 40, 40}, 0.05});  // less sure than any label's
  images[1].detections.push_back({0, {4, 0, 40, 40}, 0.6});     // the first label once more
  images[2].detections.push_back({1, {0, 0, 40, 40}, 0.6});     // the same box, a surer class
  images[2].detections[0].score = 0.61;
  for (const auto& f : rank_label_faults(images)) CHECK(f.kind == FaultKind::kNone);
  CHECK(rank_label_faults({}).empty());
}
