// SPDX-License-Identifier: Apache-2.0
// COCO JSON datasets.
#include "core/config.h"
#include "data/dataset/dataset.h"
#include "data/images.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::Contains;
using sextant::test::error_of;
using sextant::test::TemporaryFolder;
using sextant::test::write_file;

namespace {

struct Coco {
  TemporaryFolder folder;
  Json json = Json::parse(R"({
    "images": [{"id": 9, "file_name": "b.png", "width": 100, "height": 50},
               {"id": 4, "file_name": "a.png"}],
    "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 9, "category_id": 7, "bbox": [10, 5, 20, 30], "area": 444},
                    {"id": 2, "image_id": 4, "category_id": 3, "bbox": [0, 0, 100, 50],
                     "iscrowd": 1}]})");
  Coco() {
    for (const char* name : {"a.png", "b.png"})
      save_png(folder / (std::string("images/train/") + name), make_image(100, 50));
  }
  Dataset open(OnError on_error = OnError::kSkip) {
    write_file(folder / "annotations/instances_train.json", json.dump());
    return open_dataset(folder.path(), "train", {on_error});
  }
  void add(const std::string& annotation) {
    json["annotations"].push_back(Json::parse(annotation));
  }
};

}  // namespace

TEST_CASE("dataset coco: boxes, classes by sorted id, crowd and area") {
  Coco c;
  const Dataset d = c.open(OnError::kStop);
  CHECK(d.names == std::vector<std::string>{"cat", "dog"});
  REQUIRE(d.size() == 2);
  CHECK(d.samples[0].image_id == 4);
  CHECK(d.samples[0].labels.at(0).crowd);
  CHECK(d.samples[0].labels.at(0).category == 0);
  CHECK(d.samples[0].labels.at(0).area == 5000);
  const Label& l = d.samples[1].labels.at(0);
  CHECK(l.category == 1);
  CHECK(l.cx == Approx(0.2));
  CHECK(l.cy == Approx(0.4));
  CHECK(l.w == Approx(0.2));
  CHECK(l.h == Approx(0.6));
  CHECK(l.area == 444);
}

TEST_CASE("dataset coco: classes by name, paths in a JSON file") {
  Coco c;
  c.open();
  write_file(c.folder / "d.json", R"({"format": "coco", "names": ["dog", "cat"],
    "train": "images/train", "val": "images/train",
    "annotations": {"train": "annotations/instances_train.json"}})");
  const Dataset d = open_dataset(c.folder / "d.json", "train", {OnError::kStop});
  CHECK(d.samples[1].labels.at(0).category == 0);
  // Without an entry the usual name is tried.
  CHECK_THAT(error_of([&] { open_dataset(c.folder / "d.json", "val"); }),
             Contains("instances_val.json"));
  write_file(c.folder / "d.json",
             R"({"format": "coco", "names": ["dog"], "train": "images/train"})");
  const Dataset fewer = open_dataset(c.folder / "d.json", "train");
  REQUIRE(fewer.report.issues().size() == 1);
  CHECK(fewer.report.issues()[0].kind == "class");
}

TEST_CASE("dataset coco: each mistake once, with the annotation's id") {
  Coco c;
  c.add(R"({"id": 11, "image_id": 9, "category_id": 5, "bbox": [1, 1, 5, 5]})");
  c.add(R"({"id": 12, "image_id": 9, "category_id": 7, "bbox": [1, 1, 0, 5]})");
  c.add(R"({"id": 13, "image_id": 9, "category_id": 7, "bbox": [90, 1, 20, 5]})");
  c.add(R"({"id": 14, "image_id": 9, "category_id": 7, "bbox": [1, 1, 5]})");
  c.add(R"({"id": 15, "image_id": 9, "category_id": 7, "bbox": [1, 1, 5, null]})");
  c.add(R"({"id": 16, "image_id": 77, "category_id": 7, "bbox": [1, 1, 5, 5]})");
  c.add(R"({"id": 17, "image_id": 9, "category_id": 7, "bbox": [10, 5, 20, 30]})");
  c.add(R"({"id": 18, "image_id": 9, "category_id": 7, "bbox": [81, 1, 20, 5]})");  // 1 pixel: fine
  const Dataset d = c.open();
  INFO(d.report.summary());
  const std::vector<std::string> kinds{"class",  "size",       "outside",  "columns",
                                       "number", "annotation", "duplicate"};
  REQUIRE(d.report.issues().size() == kinds.size());
  for (size_t k = 0; k < kinds.size(); ++k) {
    CHECK(d.report.issues()[k].kind == kinds[k]);
    CHECK(d.report.issues()[k].line == static_cast<int64_t>(11 + k));
    CHECK_THAT(d.report.issues()[k].str(),
               Contains("instances_train.json: annotation " + std::to_string(11 + k) + ": "));
  }
  REQUIRE(d.samples[1].labels.size() == 2);
  CHECK(d.samples[1].labels[1].cx + d.samples[1].labels[1].w / 2 == Approx(1.0));
  CHECK_THAT(error_of([&] { c.open(OnError::kStop); }),
             Contains("7 mistakes") && Contains("annotation 11"));
}

TEST_CASE("dataset coco: images missing, broken, of another size or twice") {
  Coco c;
  write_file(c.folder / "images/train/bad.png", "x");
  for (const char* image :
       {R"({"id": 20, "file_name": "gone.png"})", R"({"id": 21, "file_name": "bad.png"})",
        R"({"id": 22, "file_name": "a.png", "width": 50, "height": 100})",
        R"({"id": 22, "file_name": "a.png"})"})
    c.json["images"].push_back(Json::parse(image));
  // The annotations of an image that is left out are not reported again.
  c.add(R"({"id": 30, "image_id": 20, "category_id": 7, "bbox": [1, 1, 5, 5]})");
  const Dataset d = c.open();
  CHECK(d.size() == 2);
  INFO(d.report.summary());
  REQUIRE(d.report.issues().size() == 4);
  CHECK_THAT(d.report.issues()[0].str(), Contains("gone.png: the image is listed in"));
  CHECK_THAT(d.report.issues()[1].str(), Contains("bad.png: neither"));
  CHECK_THAT(d.report.issues()[2].str(), Contains("is 100x50, but") && Contains("says 50x100"));
  CHECK(d.report.issues()[3].kind == "duplicate");
}

TEST_CASE("dataset coco: image ids that are strings") {
  Coco c;
  c.json["images"][0]["id"] = "b";
  c.json["images"][1]["id"] = "a";
  c.json["annotations"][0]["image_id"] = "b";
  c.json["annotations"][1]["image_id"] = "a";
  const Dataset d = c.open(OnError::kStop);
  REQUIRE(d.size() == 2);
  CHECK(d.samples[0].image.filename() == "a.png");
  CHECK(d.samples[0].image_id == 0);
  CHECK(d.samples[1].image_id == 1);
  CHECK(d.samples[1].labels.at(0).area == 444);
}

TEST_CASE("dataset coco: malformed files are refused") {
  Coco c;
  c.json.erase("annotations");
  CHECK_THAT(error_of([&] { c.open(); }), Contains("has no list 'annotations'"));
  c.json = Json::parse(R"({"images": [{"file_name": "a.png"}], "annotations": [],
                           "categories": [{"id": 1, "name": "a"}]})");
  CHECK_THAT(error_of([&] { c.open(); }), Contains("no valid 'id'"));
  c.json = Json::parse(R"({"images": [], "annotations": [],
                           "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]})");
  CHECK_THAT(error_of([&] { c.open(); }), Contains("duplicate category id 1"));
}

TEST_CASE("dataset coco: the same as YOLO text on the shared set") {
  const auto set = test::shared_path("data/bccd");
  if (!set) return;
  const TemporaryFolder folder;
  Json json{{"format", "coco"}, {"root", set->string()}, {"val", "images/val"}};
  write_file(folder / "d.json", json.dump());
  const Dataset coco = open_dataset(folder / "d.json", "val", {OnError::kStop});
  const Dataset yolo = open_dataset(*set, "val", {OnError::kStop});
  CHECK(coco.names == yolo.names);
  REQUIRE(coco.size() == yolo.size());
  double worst = 0;
  for (const Sample& sample : coco.samples) {
    const auto other = std::ranges::find_if(yolo.samples, [&](const Sample& s) {
      return s.image.filename() == sample.image.filename();
    });
    REQUIRE(other != yolo.samples.end());
    REQUIRE(sample.labels.size() == other->labels.size());
    for (size_t k = 0; k < sample.labels.size(); ++k) {
      const Label& a = sample.labels[k];
      const Label& b = other->labels[k];
      CHECK(a.category == b.category);
      for (const float difference : {a.cx - b.cx, a.cy - b.cy, a.w - b.w, a.h - b.h})
        worst = std::max(worst, std::abs(double{difference}));
    }
  }
  CHECK(worst < 1e-5);
}
