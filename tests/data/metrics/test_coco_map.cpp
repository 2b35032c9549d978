// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "core/file.h"
#include "core/parallel.h"
#include "data/metrics/coco_map.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;
namespace fs = std::filesystem;

namespace {

ImageEval read_image(const Json& j) {
  ImageEval image;
  for (const Json& r : j.at("truths")) {
    GroundTruth g{r[0].get<int>(),
                  {r[1].get<double>(), r[2].get<double>(), r[3].get<double>(), r[4].get<double>()},
                  std::nullopt,
                  r[6].get<int>() != 0};
    if (!r[5].is_null()) g.area = r[5].get<double>();
    image.truths.push_back(g);
  }
  for (const Json& r : j.at("detections"))
    image.detections.push_back(
        {r[0].get<int>(),
         {r[1].get<double>(), r[2].get<double>(), r[3].get<double>(), r[4].get<double>()},
         r[5].get<double>()});
  return image;
}

ImageEval one_image(std::vector<GroundTruth> truths, std::vector<Detection> detections) {
  return {std::move(truths), std::move(detections)};
}

const CocoBox kBox{10, 10, 50, 50};  // medium
const CocoBox kElsewhere{200, 200, 50, 50};

}  // namespace

TEST_CASE("coco map equals pycocotools on its vectors") {
  const fs::path folder = fs::path(SEXTANT_SOURCE_DIR) / "tests/fixtures/coco_map";
  int files = 0;
  double worst = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    INFO(entry.path().filename().string());
    const Json json = load_json(entry.path());
    std::vector<ImageEval> images;
    for (const Json& j : json.at("images")) images.push_back(read_image(j));
    const CocoMetrics m = evaluate_coco(images, json.at("classes").get<int>());
    const auto stats = m.stats();
    for (size_t i = 0; i < stats.size(); ++i) {
      INFO("stat " << i);
      const double expected = json.at("stats")[i].get<double>();
      CHECK(std::abs(stats[i] - expected) < 1e-9);
      worst = std::max(worst, std::abs(stats[i] - expected));
    }
    REQUIRE(m.per_class.size() == json.at("per_class").size());
    for (size_t k = 0; k < m.per_class.size(); ++k) {
      INFO("class " << k);
      const ClassMetrics& c = m.per_class[k];
      const double got[4] = {c.ap, c.ap50, c.ap75, c.ar_100};
      for (size_t i = 0; i < 4; ++i) {
        const double expected = json.at("per_class")[k][i].get<double>();
        CHECK(std::abs(got[i] - expected) < 1e-9);
        worst = std::max(worst, std::abs(got[i] - expected));
      }
    }
  }
  CHECK(files >= 10);
  CHECK(worst < 1e-9);
}

TEST_CASE("coco map of cases worked out by hand") {
  SECTION("one box found exactly") {
    const ImageEval image = one_image({{0, kBox, {}, false}}, {{0, kBox, 0.9}});
    const CocoMetrics m = evaluate_coco({&image, 1}, 1);
    CHECK(m.ap == Approx(1).margin(1e-12));
    CHECK(m.ar_1 == Approx(1).margin(1e-12));
    CHECK(m.ap_medium == Approx(1).margin(1e-12));
    CHECK(m.ap_small == -1);
    CHECK(m.ap_large == -1);
    CHECK(m.per_class[0].truths == 1);
  }
  SECTION("a better-scored false alarm halves the precision") {
    const ImageEval image =
        one_image({{0, kBox, {}, false}}, {{0, kBox, 0.5}, {0, kElsewhere, 0.9}});
    const CocoMetrics m = evaluate_coco({&image, 1}, 1);
    CHECK(m.ap == Approx(0.5).margin(1e-12));
    CHECK(m.ar_1 == 0);
    CHECK(m.ar_10 == Approx(1).margin(1e-12));
  }
  SECTION("equal scores keep the given order") {
    const ImageEval hit_first =
        one_image({{0, kBox, {}, false}}, {{0, kBox, 0.5}, {0, kElsewhere, 0.5}});
    CHECK(evaluate_coco({&hit_first, 1}, 1).ap == Approx(1).margin(1e-12));
    const ImageEval miss_first =
        one_image({{0, kBox, {}, false}}, {{0, kElsewhere, 0.5}, {0, kBox, 0.5}});
    CHECK(evaluate_coco({&miss_first, 1}, 1).ap == Approx(0.5).margin(1e-12));
  }
  SECTION("an IoU of exactly 0.5 counts at the first threshold only") {
    const ImageEval image = one_image({{0, kBox, {}, false}}, {{0, {10, 10, 25, 50}, 0.9}});
    const CocoMetrics m = evaluate_coco({&image, 1}, 1);
    CHECK(m.ap50 == Approx(1).margin(1e-12));
    CHECK(m.ap == Approx(0.1).margin(1e-12));
    CHECK(m.ap75 == 0);
  }
  SECTION("half of the boxes found: 51 of 101 recall points") {
    const ImageEval image =
        one_image({{0, kBox, {}, false}, {0, kElsewhere, {}, false}}, {{0, kBox, 0.9}});
    CHECK(evaluate_coco({&image, 1}, 1).ap == Approx(51.0 / 101).margin(1e-12));
  }
  SECTION("crowds take any number of detections and count for nothing") {
    const ImageEval image =
        one_image({{0, kBox, {}, false}, {0, {200, 200, 200, 200}, {}, true}},
                  {{0, {210, 210, 20, 20}, 0.9}, {0, {250, 250, 30, 30}, 0.8}, {0, kBox, 0.3}});
    const CocoMetrics m = evaluate_coco({&image, 1}, 1);
    CHECK(m.ap == Approx(1).margin(1e-12));
    CHECK(m.per_class[0].truths == 1);
  }
  SECTION("the annotation's area decides the size, not the box") {
    const ImageEval image = one_image({{0, kBox, 500.0, false}}, {{0, kBox, 0.9}});
    const CocoMetrics m = evaluate_coco({&image, 1}, 1);
    CHECK(m.ap_small == Approx(1).margin(1e-12));
    CHECK(m.ap_medium == -1);
  }
  SECTION("a box on the border of two sizes is of both") {
    struct Border {
      double side;
      bool small, medium, large;
    };
    for (const Border& b : {Border{31.9, true, false, false},
                            {32, true, true, false},
                            {32.1, false, true, false},
                            {95.9, false, true, false},
                            {96, false, true, true},
                            {96.1, false, false, true}}) {
      CAPTURE(b.side);
      const CocoBox box{10, 10, b.side, b.side};
      // Found exactly, behind a false alarm of the same size.
      const CocoBox alarm{300, 300, b.side, b.side};
      const ImageEval image = one_image({{0, box, {}, false}}, {{0, box, 0.5}, {0, alarm, 0.9}});
      const CocoMetrics m = evaluate_coco({&image, 1}, 1);
      CHECK(m.ap_small == Approx(b.small ? 0.5 : -1).margin(1e-12));
      CHECK(m.ap_medium == Approx(b.medium ? 0.5 : -1).margin(1e-12));
      CHECK(m.ap_large == Approx(b.large ? 0.5 : -1).margin(1e-12));
    }
    // By the area that an annotation gives.
    const ImageEval given = one_image({{0, kBox, 1024.0, false}, {0, kElsewhere, 9216.0, false}},
                                      {{0, kBox, 0.9}, {0, kElsewhere, 0.8}});
    const CocoMetrics m = evaluate_coco({&given, 1}, 1);
    CHECK(m.ap_small == Approx(1).margin(1e-12));
    CHECK(m.ap_medium == Approx(1).margin(1e-12));
    CHECK(m.ap_large == Approx(1).margin(1e-12));
  }
  SECTION("a class without truth stays out of the mean") {
    const ImageEval image = one_image({{0, kBox, {}, false}}, {{0, kBox, 0.9}, {1, kBox, 0.9}});
    const CocoMetrics m = evaluate_coco({&image, 1}, 2);
    CHECK(m.ap == Approx(1).margin(1e-12));
    CHECK(m.per_class[1].ap == -1);
    CHECK(m.to_json({"a"}).at("per_class")[1].at("map50").is_null());
    CHECK(m.to_json({"a"}).at("per_class")[0].at("name") == "a");
  }
  SECTION("nothing at all") {
    const CocoMetrics m = evaluate_coco({}, 2);
    for (const double v : m.stats()) CHECK(v == -1);
    CHECK(m.per_class.size() == 2);
  }
  SECTION("the hundred best of an image count") {
    ImageEval image = one_image({{0, kBox, {}, false}}, {});
    for (int i = 0; i < 100; ++i) image.detections.push_back({0, kElsewhere, 0.9});
    image.detections.push_back({0, kBox, 0.8});
    CHECK(evaluate_coco({&image, 1}, 1).ap == 0);
    image.detections.back().score = 0.95;
    CHECK(evaluate_coco({&image, 1}, 1).ap == Approx(1).margin(1e-12));
  }
}

TEST_CASE("coco map does not depend on the number of threads") {
  Rng rng(5);
  std::vector<ImageEval> images(60);
  for (ImageEval& image : images)
    for (int i = 0; i < 12; ++i) {
      const CocoBox b{rng.uniform(0, 300), rng.uniform(0, 300), rng.uniform(5, 150),
                      rng.uniform(5, 150)};
      const int c = static_cast<int>(rng.below(5));
      image.truths.push_back({c, b, {}, rng.below(10) == 0});
      image.detections.push_back({c,
                                  {b.x + rng.uniform(-9, 9), b.y + rng.uniform(-9, 9), b.w, b.h},
                                  static_cast<double>(rng.below(20)) / 20});
    }
  const int before = num_threads();
  set_num_threads(1);
  const auto one = evaluate_coco(images, 5).stats();
  set_num_threads(3);
  const auto three = evaluate_coco(images, 5).stats();
  set_num_threads(before);
  CHECK(one == three);
  CHECK(one[0] > 0.05);
  CHECK(one[0] < 0.95);
}

TEST_CASE("coco map names bad input") {
  ImageEval image = one_image({{0, kBox, {}, false}}, {{0, kBox, 0.9}, {2, kBox, 0.9}});
  const auto run = [&] { evaluate_coco({&image, 1}, 2); };
  CHECK(test::error_of(run) ==
        "evaluate_coco: image 0, detection 1: class 2 is out of range, there are 2");
  image.detections[1] = {1, kBox, std::nan("")};
  CHECK(test::error_of(run) == "evaluate_coco: image 0, detection 1: a value is not finite");
  image.detections.pop_back();
  image.truths[0].box.w = std::numeric_limits<double>::infinity();
  CHECK(test::error_of(run) == "evaluate_coco: image 0, ground truth 0: a value is not finite");
}
