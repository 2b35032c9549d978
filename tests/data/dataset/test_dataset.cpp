// SPDX-License-Identifier: Apache-2.0
// Datasets as folders, JSON and data.yaml, and every mistake that labels can hold.
#include <set>
#include <sstream>

#include "core/config.h"
#include "data/dataset/dataset.h"
#include "data/images.h"
#include "data/tiny_files.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::Contains;
using sextant::test::error_of;
using sextant::test::TemporaryFolder;
using sextant::test::write_file;

namespace {

// images/train and labels/train of a dataset with two classes.
struct Folder {
  TemporaryFolder folder;
  Folder() { write_file(folder / "classes.json", R"({"names": ["cat", "dog"]})"); }
  void image(const std::string& name, int width = 20, int height = 10) {
    save_png(folder / ("images/train/" + name), make_image(width, height, 50));
  }
  void labels(const std::string& name, const std::string& text) {
    write_file(folder / ("labels/train/" + name), text);
  }
  Dataset open(OnError on_error = OnError::kSkip) const {
    return open_dataset(folder.path(), "train", {on_error});
  }
};

int64_t count_of_files(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), {});
}

int64_t lines_of(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return 0;
  std::istringstream text(read_text(file));
  int64_t lines = 0;
  for (std::string line; std::getline(text, line);) ++lines;
  return lines;
}

// The only issue of a dataset whose a.txt is `text`.
LabelIssue only_issue(const std::string& text, size_t labels_left = 1) {
  Folder f;
  f.image("a.png");
  f.labels("a.txt", text);
  const Dataset d = f.open();
  INFO(d.report.summary());
  REQUIRE(d.report.issues().size() == 1);
  CHECK(d.samples.at(0).labels.size() == labels_left);
  CHECK_THAT(error_of([&] { f.open(OnError::kStop); }),
             Contains("1 mistake") && Contains("a.txt:"));
  return d.report.issues()[0];
}

}  // namespace

TEST_CASE("dataset: a folder in YOLO form") {
  Folder f;
  f.image("b.png", 40, 30);
  f.image("a.png");
  write_file(f.folder / "images/train/c.jpg", test::as_text(test::kJpeg));
  f.labels("b.txt", "1 0.5 0.5 0.25 0.5\r\n\n0 +0.1\t0.2 .1 1e-1\n");
  f.labels("c.txt", "");
  f.labels("classes.txt", "cat\ndog\n");
  const Dataset d = f.open(OnError::kStop);
  CHECK(d.names == std::vector<std::string>{"cat", "dog"});
  REQUIRE(d.size() == 3);
  CHECK(d.report.empty());
  CHECK(d.samples[0].image.filename() == "a.png");
  CHECK(d.samples[0].labels.empty());
  CHECK(d.samples[2].labels.empty());
  CHECK(d.samples[2].width == 16);
  CHECK(d.samples[2].height == 8);
  CHECK(d.samples[2].image_id == 2);
  const Sample& b = d.samples[1];
  CHECK(b.width == 40);
  CHECK(b.height == 30);
  REQUIRE(b.labels.size() == 2);
  CHECK(b.labels[0].category == 1);
  CHECK(b.labels[0].cx == 0.5f);
  CHECK(b.labels[0].h == 0.5f);
  CHECK(b.labels[0].area == 10.0 * 15.0);
  CHECK(b.labels[1].cx == Approx(0.1));
  CHECK(b.labels[1].w == Approx(0.1));
}

TEST_CASE("dataset: each label mistake once, with its line") {
  const std::string good = "0 0.5 0.5 0.5 0.5\n";
  LabelIssue issue = only_issue(good + "7 0.5 0.5 0.2 0.2\n");
  CHECK(issue.kind == "class");
  CHECK(issue.line == 2);
  CHECK_THAT(issue.str(), Contains("labels/train/a.txt:2: class 7 is outside 0..1"));
  CHECK(only_issue("-1 0.5 0.5 0.2 0.2\n" + good).kind == "class");
  CHECK(only_issue("0.5 0.5 0.5 0.2 0.2\n" + good).kind == "class");
  issue = only_issue("1 0.95 0.5 0.2 0.2\n" + good);
  CHECK(issue.kind == "outside");
  CHECK(issue.line == 1);
  CHECK(only_issue(good + "1 0.5 0.05 0.2 0.2\n").kind == "outside");
  CHECK(only_issue(good + "1 20 10 5 5\n").kind == "outside");
  CHECK(only_issue(good + "1 nan 0.5 0.2 0.2\n").kind == "number");
  CHECK(only_issue(good + "1 inf 0.5 0.2 0.2\n").kind == "number");
  CHECK(only_issue(good + "1 0.5 0,5 0.2 0.2\n").kind == "number");
  CHECK(only_issue(good + "cat 0.5 0.5 0.2 0.2\n").kind == "number");
  CHECK(only_issue(good + "1 0.5 0.5 0 0.2\n").kind == "size");
  CHECK(only_issue(good + "1 0.5 0.5 0.2 -0.2\n").kind == "size");
  CHECK(only_issue(good + "1 0.5 0.5 0.2\n").kind == "columns");
  CHECK(only_issue(good + "1 0.5 0.5 0.2 0.2 0.9\n").kind == "columns");
  issue = only_issue(good + "1 0.5 0.5 0.2 0.2\n" + good, 2);
  CHECK(issue.kind == "duplicate");
  CHECK(issue.line == 3);
}

TEST_CASE("dataset: a box that barely leaves the image is clipped") {
  Folder f;
  f.image("a.png");
  f.labels("a.txt", "0 0.1 0.5 0.2009 1\n");
  const Dataset d = f.open(OnError::kStop);
  const Label& l = d.samples[0].labels.at(0);
  CHECK(l.cx - l.w / 2 == Approx(0.0).margin(1e-7));
  CHECK(l.cx + l.w / 2 == Approx(0.20045));
}

TEST_CASE("dataset: broken and missing images") {
  Folder f;
  f.image("a.png");
  f.labels("lost.txt", "0 0.5 0.5 0.5 0.5\n");
  write_file(f.folder / "images/train/broken.jpg", "no image");
  write_file(f.folder / "images/train/empty.png", "");
  f.labels("broken.txt", "0 0.5 0.5 0.5 0.5\n");
  const Dataset d = f.open();
  CHECK(d.size() == 1);
  REQUIRE(d.report.issues().size() == 3);
  CHECK(d.report.count("image") == 3);
  const std::string text = d.report.summary();
  CHECK_THAT(text, Contains("3 mistakes: 3 image"));
  CHECK_THAT(text, Contains("lost.txt: labels without an image"));
  CHECK_THAT(text, Contains("broken.jpg: neither a JPEG"));
  CHECK_THAT(text, Contains("empty.png: the file is empty"));
  CHECK_THAT(d.report.summary(1), Contains("and 2 more"));
  CHECK_THAT(error_of([&] { f.open(OnError::kStop); }),
             Contains("3 mistakes") && Contains("lost.txt: labels without an image"));
}

TEST_CASE("dataset: wrong descriptions are refused") {
  Folder f;
  f.image("a.png");
  CHECK_THAT(error_of([&] { open_dataset(f.folder.path(), "tran"); }),
             Contains("no split 'tran'") && Contains("nearest is 'train'"));
  CHECK_THAT(error_of([&] { open_dataset(f.folder / "absent", "train"); }),
             Contains("absent: no such file or folder"));
  write_file(f.folder / "notes.md", "x");
  CHECK_THAT(error_of([&] { open_dataset(f.folder / "notes.md", "train"); }), Contains("a folder"));
  auto json = [&](const std::string& text) {
    write_file(f.folder / "d.json", text);
    return error_of([&] { open_dataset(f.folder / "d.json", "train"); });
  };
  CHECK(json(R"({"names": ["a"], "train": "images/train"})") == "no error");
  CHECK_THAT(json(R"({"names": ["a"], "trian": "images/train"})"),
             Contains("d.json") && Contains("trian") && Contains("'train'"));
  CHECK_THAT(json(R"({"train": "images/train"})"), Contains("'names' is missing"));
  CHECK_THAT(json(R"({"names": ["a", "a"], "train": "images/train"})"),
             Contains("duplicate class name 'a'"));
  CHECK_THAT(json(R"({"names": [], "train": "images/train"})"), Contains("'names' is empty"));
  CHECK_THAT(json(R"({"names": ["a"], "train": "images/val"})"),
             Contains("images/val does not exist"));
  CHECK_THAT(json(R"({"names": ["a"], "train": 5})"), Contains("'train' has the wrong type"));
  CHECK_THAT(json(R"({"names": ["a"], "format": "pascal", "train": "x"})"),
             Contains("yolo, coco or voc"));
  CHECK_THAT(json(R"({"names": ["a"], "root": "gone", "train": "x"})"),
             Contains("is not a folder"));
  CHECK_THAT(json(R"({"names": ["a"], "train": "images/train", "labels": {"train": "none"}})"),
             Contains("label folder"));
  CHECK_THAT(json("{"), Contains("d.json: line 1"));
  std::filesystem::create_directories(f.folder / "images/val");
  CHECK_THAT(error_of([&] { open_dataset(f.folder.path(), "val"); }), Contains("no usable image"));
}

TEST_CASE("dataset: JSON with list file, several folders and label folders") {
  Folder f;
  f.image("a.png");
  f.image("b.png");
  f.labels("a.txt", "0 0.5 0.5 0.5 0.5\n");
  save_png(f.folder / "more/images/x.png", make_image(5, 5));
  write_file(f.folder / "more/labels/x.txt", "1 0.5 0.5 0.5 0.5\n");
  write_file(f.folder / "other/a.txt", "1 0.5 0.5 0.1 0.1\n");
  write_file(f.folder / "list.txt", "images/train/a.png\r\nimages/train/gone.png\n\n");
  write_file(f.folder / "sub/d.json", R"({"root": "..", "names": ["cat", "dog"],
    "train": ["images/train", "more/images"], "val": "list.txt", "test": "images/train",
    "labels": {"test": "other"}})");
  const Dataset train = open_dataset(f.folder / "sub/d.json", "train", {OnError::kStop});
  REQUIRE(train.size() == 3);
  CHECK(train.samples[0].labels.size() == 1);
  CHECK(train.samples[2].labels.at(0).category == 1);
  const Dataset val = open_dataset(f.folder / "sub/d.json", "val");
  CHECK(val.size() == 1);
  REQUIRE(val.report.issues().size() == 1);
  CHECK_THAT(val.report.issues()[0].str(), Contains("list.txt:2: the image"));
  const Dataset test = open_dataset(f.folder / "sub/d.json", "test");
  CHECK(test.samples[0].labels.at(0).category == 1);
}

TEST_CASE("dataset: data.yaml") {
  Folder f;
  std::filesystem::remove(f.folder / "classes.json");
  f.image("a.png");
  f.labels("a.txt", "2 0.5 0.5 0.5 0.5\n");
  auto yaml = [&](const std::string& text) {
    write_file(f.folder / "data.yaml", text);
    return error_of([&] { open_dataset(f.folder / "data.yaml", "train", {OnError::kStop}); });
  };
  CHECK(yaml("train: images/train\nnc: 3\nnames: ['a', 'b', 'c']\n") == "no error");
  // A folder without classes.json is read by its data.yaml.
  CHECK(open_dataset(f.folder.path(), "train").samples[0].labels.size() == 1);
  CHECK(yaml("path: .\ntrain: [images/train]\nval:\nnames:\n  0: a\n  1: b\n  2: c\n") ==
        "no error");
  CHECK(yaml("path: " + f.folder.path().string() + "\ntrain: ./images/train\nnames: [a, b, c]\n") ==
        "no error");
  CHECK_THAT(yaml("train: images/train\nnc: 4\nnames: [a, b, c]\n"), Contains("'nc' is 4"));
  CHECK_THAT(yaml("train: images/train\nnames: {0: a, 2: c}\n"), Contains("not class 1"));
  CHECK_THAT(yaml("train: images/train\n"), Contains("'names' is missing"));
  CHECK_THAT(yaml("train: [images\nnames: [a]\n"), Contains("data.yaml: line"));
  CHECK_THAT(yaml("val: images/train\nnames: [a, b, c]\n"), Contains("no split 'train'"));
}

TEST_CASE("dataset: shared sets of real photographs") {
  const auto sets = test::shared_path("data");
  if (!sets) return;
  for (const auto& set : std::filesystem::directory_iterator(*sets)) {
    if (!set.is_directory()) continue;
    for (const auto& folder : std::filesystem::directory_iterator(set.path() / "images")) {
      if (!folder.is_directory()) continue;
      const std::string split = folder.path().filename().string();
      CAPTURE(set.path(), split);
      const Dataset d = open_dataset(set.path(), split, {OnError::kSkip});
      INFO(d.report.summary());
      CHECK(Json(d.names) == load_json(set.path() / "classes.json").at("names"));
      CHECK(d.size() == count_of_files(folder.path()));
      // Every line of an image's label file is a box, or a mistake that is named.
      int64_t boxes = 0, lines = 0;
      for (const Sample& sample : d.samples) {
        boxes += std::ssize(sample.labels);
        lines += lines_of(set.path() / "labels" / split / sample.image.stem().concat(".txt"));
      }
      CHECK(boxes > 0);
      CHECK(boxes + std::ssize(d.report.issues()) - d.report.count("image") == lines);
    }
  }
}
