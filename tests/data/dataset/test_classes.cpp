// SPDX-License-Identifier: Apache-2.0
// Matching the classes of a dataset with those of another split or a model.
#include "core/json.h"
#include "data/dataset/dataset.h"
#include "data/images.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::Contains;
using sextant::test::error_of;
using sextant::test::TemporaryFolder;
using sextant::test::write_file;

namespace {

// Two images, an object of each class of `names` in each.
struct YoloClasses {
  TemporaryFolder folder;
  explicit YoloClasses(const std::vector<std::string>& names) {
    write_file(folder / "classes.json", Json({{"names", names}}).dump());
    save_png(folder / "images/val/a.png", make_image(20, 10));
    std::string rows;
    for (size_t i = 0; i < names.size(); ++i)
      rows += fmt::format("{} 0.5 0.5 0.{} 0.5\n", i, i + 1);
    write_file(folder / "labels/val/a.txt", rows);
  }
  Dataset open(const std::vector<std::string>& names) const {
    return open_dataset(folder.path(), "val", {OnError::kStop, ClassList{names, "the model"}});
  }
};

struct CocoClasses {
  TemporaryFolder folder;
  explicit CocoClasses(const std::vector<std::string>& names) {
    save_png(folder / "images/val/a.png", make_image(20, 10));
    Json json = {{"images", {{{"id", 1}, {"file_name", "a.png"}}}},
                 {"categories", Json::array()},
                 {"annotations", Json::array()}};
    for (size_t i = 0; i < names.size(); ++i) {
      json["categories"].push_back({{"id", 10 + i}, {"name", names[i]}});
      json["annotations"].push_back(
          {{"id", i}, {"image_id", 1}, {"category_id", 10 + i}, {"bbox", {0, 0, 2 + i, 5}}});
    }
    write_file(folder / "annotations/instances_val.json", json.dump());
  }
  Dataset open(const std::vector<std::string>& names) const {
    return open_dataset(folder.path(), "val", {OnError::kStop, ClassList{names, "the model"}});
  }
};

std::vector<int> categories(const Dataset& d) {
  std::vector<int> c;
  for (const Label& l : d.samples.at(0).labels) c.push_back(l.category);
  return c;
}

}  // namespace

TEST_CASE("classes: the same names in another order are matched") {
  const YoloClasses yolo({"cat", "dog", "cow"});
  const Dataset d = yolo.open({"cow", "cat", "dog"});
  CHECK(d.names == std::vector<std::string>{"cow", "cat", "dog"});
  CHECK(categories(d) == std::vector<int>{1, 2, 0});
  const CocoClasses coco({"cat", "dog", "cow"});
  CHECK(categories(coco.open({"cow", "cat", "dog"})) == std::vector<int>{1, 2, 0});
}

TEST_CASE("classes: other names are refused in one line that names them") {
  const YoloClasses yolo({"cat", "dog"});
  CHECK_THAT(error_of([&] {
               yolo.open({"cat", "cow"});
             }),
             Contains("other classes than the model: it has 'dog', it lacks 'cow'"));
  CHECK_THAT(error_of([&] { yolo.open({"cat", "dog", "cow"}); }), Contains("it lacks 'cow'"));
  const CocoClasses coco({"cat", "dog"});
  CHECK_THAT(error_of([&] {
               coco.open({"cat", "cow"});
             }),
             Contains("instances_val.json: the class 'dog' is not among those of the model"));
}

TEST_CASE("classes: a COCO file may list fewer classes") {
  const CocoClasses coco({"dog"});
  const Dataset d = coco.open({"cat", "dog"});
  CHECK(d.num_classes() == 2);
  CHECK(categories(d) == std::vector<int>{1});
}

TEST_CASE("classes: a model without class names is matched by number") {
  const YoloClasses yolo({"cat", "dog"});
  const Dataset d = yolo.open({"0", "1"});
  CHECK(d.names == std::vector<std::string>{"cat", "dog"});
  CHECK(categories(d) == std::vector<int>{0, 1});
  CHECK_THAT(error_of([&] { yolo.open({"0", "1", "2"}); }), Contains("2 classes instead of 3"));
}
