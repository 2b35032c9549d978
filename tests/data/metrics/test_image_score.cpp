// SPDX-License-Identifier: Apache-2.0
#include "data/metrics/image_score.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;

TEST_CASE("the IoU of boxes") {
  CHECK(box_iou({0, 0, 10, 10}, {0, 0, 10, 10}) == 1);
  CHECK(box_iou({0, 0, 10, 10}, {5, 0, 10, 10}) == Approx(50.0 / 150));
  CHECK(box_iou({0, 0, 10, 10}, {10, 0, 10, 10}) == 0);
  CHECK(box_iou({0, 0, 0, 0}, {0, 0, 0, 0}) == 0);
}

TEST_CASE("an image's score counts what is found, wrong and overlooked") {
  ImageEval image;
  image.truths = {{0, {0, 0, 10, 10}, {}, false},
                  {0, {100, 0, 10, 10}, {}, false},
                  {1, {200, 0, 10, 10}, {}, false},
                  {0, {300, 0, 100, 100}, {}, true}};
  image.detections = {
      {0, {1, 0, 10, 10}, 0.6},     // the first box, but a surer one takes it
      {0, {0, 0, 10, 10}, 0.9},     // takes it
      {0, {200, 0, 10, 10}, 0.8},   // the third box, of another class
      {0, {310, 10, 10, 10}, 0.7},  // in a crowd
      {1, {200, 0, 10, 10}, 0.1},   // below the confidence
  };
  const ImageScore s = score_image(image, 0.25);
  CHECK(s.shown == std::vector<bool>{true, true, true, true, false});
  CHECK(s.right == std::vector<bool>{false, true, false, false, false});
  CHECK(s.found == std::vector<bool>{true, false, false, true});
  CHECK(s.rights == 1);
  CHECK(s.wrongs == 2);
  CHECK(s.missed == 2);
  CHECK(s.f1() == Approx(2.0 / 6));
  const ImageScore all = score_image(image, 0.05);
  CHECK(all.rights == 2);
  CHECK(all.missed == 1);
  CHECK(score_image({}, 0.5).f1() == 1);
}
