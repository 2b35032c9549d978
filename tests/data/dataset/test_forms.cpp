// SPDX-License-Identifier: Apache-2.0
// Every dataset format, with the peculiarities of the tools that write them.
#include <filesystem>

#include "core/class_names.h"
#include "core/config.h"
#include "data/dataset/coco_segmentation.h"
#include "data/dataset/dataset.h"
#include "data/dataset/xml.h"
#include "data/images.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::Contains;
using sextant::test::error_of;
using sextant::test::TemporaryFolder;
using sextant::test::write_file;

namespace fs = std::filesystem;

namespace {

struct Set {
  TemporaryFolder folder;
  void image(const std::string& name, int width = 20, int height = 10) const {
    save_png(folder / name, make_image(width, height, 50));
  }
  void text(const std::string& name, std::string_view contents) const {
    write_file(folder / name, contents);
  }
  Dataset open(const std::string& split = "train") const {
    return open_dataset(folder.path(), split, {OnError::kStop});
  }
};

const char* const kObject = R"(<object><name>dog</name><difficult>0</difficult>
  <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>5</ymax></bndbox></object>)";

std::string voc(const std::string& objects) {
  return "<?xml version=\"1.0\"?>\n<!-- made by hand -->\n<annotation "
         "verified=\"no\"><filename>a.png"
         "</filename><size><width>20</width><height>10</height><depth>3</depth></size>" +
         objects + "</annotation>\n";
}

}  // namespace

TEST_CASE("forms: polygons become their bounding boxes") {
  const Set s;
  s.text("classes.json", R"({"names": ["cat", "dog"]})");
  s.image("images/train/a.png");
  s.text("labels/train/a.txt", "1 0.10 0.20 0.40 0.25 0.3 0.60\n0 0.5 0.5 0.2 0.2\n");
  const Dataset d = s.open();
  REQUIRE(d.samples[0].labels.size() == 2);
  const Label& l = d.samples[0].labels[0];
  CHECK(l.category == 1);
  CHECK(l.cx == Approx(0.25));
  CHECK(l.cy == Approx(0.4));
  CHECK(l.w == Approx(0.3));
  CHECK(l.h == Approx(0.4));
  CHECK(l.area == Approx(0.3 * 20 * 0.4 * 10));
  // Two points are not a polygon, and neither is half a point.
  s.text("labels/train/a.txt", "1 0.1 0.2 0.4\n");
  CHECK_THAT(error_of([&] { s.open(); }), Contains("4 columns"));
  s.text("labels/train/a.txt", "1 0.1 0.2 0.4 0.2 0.4 0.6 0.1\n");
  CHECK_THAT(error_of([&] { s.open(); }), Contains("8 columns"));
}

TEST_CASE("forms: COCO masks in place of boxes") {
  using Corners = std::array<double, 4>;
  const auto box = [](const char* text) { return segmentation_box(parse_json(text, "x")); };
  CHECK(box("[[1, 2, 5, 2, 5, 8], [0, 4, 3, 4, 3, 9]]") == Corners{0, 2, 5, 9});
  // Columns of 4: three zeros, then ones in the last of column 0 and the first two of column 1.
  CHECK(box(R"({"size": [4, 3], "counts": [3, 3, 6]})") == Corners{0, 0, 2, 4});
  CHECK(box(R"({"size": [4, 3], "counts": [5, 2, 5]})") == Corners{1, 1, 2, 3});
  // The same as text: 5, 2, 5.
  CHECK(box(R"({"size": [4, 3], "counts": "525"})") == Corners{1, 1, 2, 3});
  for (const char* none :
       {"[]", "[[1, 2, 3]]", "null", "{}", R"({"size": [4, 3], "counts": [12]})",
        R"({"size": [4, 3], "counts": [5, 20]})", R"({"size": [4, -3], "counts": [1, 1]})",
        R"({"size": [4, 3], "counts": "oooooooooooooooooooooo"})",
        R"({"size": [4, 3], "counts": " "})"})
    CHECK_FALSE(box(none));

  const Set s;
  s.image("images/train/a.png");
  s.text("annotations/instances_train.json", R"({"images": [{"id": 1, "file_name": "a.png"}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 5, "image_id": 1, "category_id": 1,
                     "segmentation": [[2, 1, 12, 1, 12, 6, 2, 6]]}]})");
  const Dataset d = s.open();
  CHECK(d.samples[0].labels.at(0).w == Approx(0.5));
  CHECK(d.samples[0].labels.at(0).area == 50);
}

TEST_CASE("forms: COCO sizes that are null, text or nonsense") {
  const auto error = [](const char* sizes) {
    const Set s;
    s.image("images/train/a.png");
    s.text("annotations/instances_train.json",
           fmt::format(R"({{"images": [{{"id": 1, "file_name": "a.png"{}}}],
             "categories": [{{"id": 1, "name": "cat"}}], "annotations": []}})",
                       sizes));
    return error_of([&] { s.open(); });
  };
  for (const char* good :
       {"", R"(, "width": null, "height": null)", R"(, "width": "20", "height": "10")",
        R"(, "width": 20.0, "height": 10)"})
    CHECK(error(good) == "no error");
  for (const char* bad : {R"(, "width": "wide", "height": "10")", R"(, "width": [20])",
                          R"(, "width": 21, "height": 10)", R"(, "height": true)"})
    CHECK_THAT(error(bad), Contains("a.png: the image is 20x10, but") && Contains("says"));
}

TEST_CASE("forms: COCO categories of the same name are refused") {
  const Set s;
  s.image("images/train/a.png");
  s.text("annotations/instances_train.json",
         R"({"images": [{"id": 1, "file_name": "a.png"}], "annotations": [],
             "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]})");
  CHECK_THAT(error_of([&] { s.open(); }),
             Contains("instances_train.json: duplicate class name 'cat'"));
}

TEST_CASE("forms: Pascal VOC, beside the images' folders") {
  for (const char* place : {"annotations/train/a.xml", "annotations/a.xml"}) {
    const Set s;
    s.image("images/train/a.png");
    s.image("images/train/none.png");
    s.text(place, voc(std::string(kObject) +
                      "<object><name>c&amp;t</name><difficult>1</difficult><part><bndbox/></part>"
                      "<bndbox><xmin>11.0</xmin><ymin>1</ymin><xmax>20</xmax><ymax>10</ymax>"
                      "</bndbox></object>"));
    const Dataset d = s.open();
    CHECK(d.names == std::vector<std::string>{"c&t", "dog"});
    REQUIRE(d.size() == 2);
    CHECK(d.images_without_boxes() == 1);
    const auto& labels = d.samples[0].labels;
    REQUIRE(labels.size() == 2);
    // Pixels 1 to 10 of 20 are the left half.
    CHECK(labels[0].category == 1);
    CHECK(labels[0].cx == Approx(0.25));
    CHECK(labels[0].w == Approx(0.5));
    CHECK(labels[0].h == Approx(0.5));
    CHECK_FALSE(labels[0].crowd);
    CHECK(labels[1].crowd);
    CHECK(labels[1].cx == Approx(0.75));
  }
}

TEST_CASE("forms: Pascal VOC in the layout of the challenge, with given classes") {
  const Set s;
  s.image("JPEGImages/a.png");
  s.image("JPEGImages/b.png");
  s.text("Annotations/a.xml", voc(kObject));
  s.text("Annotations/b.xml", voc(kObject));
  s.text("ImageSets/Main/train.txt", "a\n");
  s.text("ImageSets/Main/val.txt", "b -1\r\n\n");
  s.text("classes.json", R"({"names": ["cat", "dog"]})");
  CHECK(s.open().samples.at(0).labels.at(0).category == 1);
  CHECK(s.open("val").samples.at(0).image.filename() == "b.png");
  s.text("ImageSets/Main/train.txt", "a\nlost\n");
  CHECK_THAT(error_of([&] { s.open(); }), Contains("train.txt:2: image lost does not exist"));
}

TEST_CASE("forms: mistakes in Pascal VOC") {
  const auto error = [](const std::string& text) {
    const Set s;
    s.image("images/train/a.png");
    s.text("annotations/a.xml", text);
    return error_of([&] { s.open(); });
  };
  CHECK(error(voc(kObject)) == "no error");
  CHECK_THAT(error("<a/>"), Contains("a.xml: the root element is <a>"));
  CHECK_THAT(error("<annotation>"), Contains("a.xml: line 1: the file ends inside <annotation>"));
  CHECK_THAT(error(voc("<object></name>")), Contains("</name> where <object> is open"));
  CHECK_THAT(error(voc("<object><name>x</name></object>")), Contains("no number 'ymax'"));
  CHECK_THAT(error(voc("&unknown;")), Contains("unknown entity '&unknown;'"));
  std::string other = voc(kObject);
  other.replace(other.find("<width>20"), 9, "<width>30");
  CHECK_THAT(error(other), Contains("says 30x10"));
}

TEST_CASE("forms: VOC objects have their lines, and annotations without an image are told once") {
  const Set s;
  s.image("images/train/a.png");
  s.image("images/val/b.png");
  s.text("annotations/a.xml", voc(std::string("\n\n") + kObject));
  s.text("annotations/b.xml", voc(kObject));
  CHECK(s.open().report.empty());
  const auto line = [](const Dataset& d) { return d.samples[0].labels[0].line; };
  const Dataset before = s.open();
  s.text("annotations/a.xml", voc(kObject));
  CHECK(line(before) == line(s.open()) + 2);
  s.text("annotations/c.xml", voc(kObject));
  CHECK_THAT(error_of([&] { s.open(); }),
             Contains("c.xml") && Contains("there is no image of this name"));
  CHECK(s.open("val").report.empty());
}

TEST_CASE("forms: XML") {
  const auto root = [](const std::string& text) { return parse_xml(text, "a.xml"); };
  CHECK(root("<!DOCTYPE a [<!ENTITY b \"c\">]><a> x &#65;&#x2764; <![CDATA[<b>&]]> </a>").text ==
        "x A\u2764 <b>&");
  CHECK(root("<a><b/><c d=\"e\"/><b>1</b></a>").find("c") != nullptr);
  CHECK(root("<a/>").find("b") == nullptr);
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "<a>";
  for (const std::string& bad : {deep, std::string("<a></a><b></b>"), std::string("<a"),
                                 std::string("<a>&#0;</a>"), std::string("<a>&#55555555555;</a>"),
                                 std::string("<!--"), std::string("< a></ a>"), std::string()})
    CHECK_THAT(error_of([&] { root(bad); }), Contains("a.xml: line 1: "));
}

TEST_CASE("forms: data.yaml as tools write it") {
  const Set s;
  s.image("train/images/a.png");
  s.text("train/labels/a.txt", "1 0.5 0.5 0.5 0.5\n");
  const auto yaml = [&](const std::string& text) {
    s.text("data.yaml", text);
    return error_of([&] { s.open(); });
  };
  CHECK(yaml("train: ../train/images\nnames: [cat, dog]\n") == "no error");
  CHECK(yaml("\xEF\xBB\xBFtrain: train/images\nnames: [cat, dog]\n") == "no error");
  CHECK(yaml("train: train/images\nnames: [Größe, 箱子]\n") == "no error");
  CHECK_THAT(yaml("train: train/images\nnames: [cat, dog]\nnames: [dog, cat]\n"),
             Contains("data.yaml: duplicate key 'names'"));
  CHECK_THAT(yaml("train: train/images\nnames: {0: cat, 1: dog, 1: cow}\n"),
             Contains("duplicate key '1'"));
  CHECK_THAT(yaml("train: train/images\nnames: {0: cat, 1: dog, 01: cow}\n"), Contains("twice"));
  CHECK_THAT(yaml("train: train/images\nnames: [Gr\xf6\xdf"
                  "e, dog]\n"),
             Contains("data.yaml"));
  CHECK_THAT(yaml("train: train/images\nnames: [dog, dog]\n"),
             Contains("duplicate class name 'dog'"));
  CHECK_THAT(yaml("train: train/images\nnames: " + std::string(100000, '[') + "\n"),
             Contains("data.yaml"));
  // Aliases that say a long text very often.
  std::string aliases = "a: &a " + std::string(5000, 'x') + "\ntrain: train/images\nnames: [";
  for (int i = 0; i < 1000; ++i) aliases += "*a, ";
  CHECK_THAT(yaml(aliases + "b]\n"), Contains("data.yaml: a list holds a text of 5000 bytes"));
}

TEST_CASE("forms: lists name images beside them, or in the current folder") {
  const Set s;
  s.text("classes.json", R"({"names": ["cat"]})");
  s.image("images/all/a.png");
  s.text("labels/all/a.txt", "0 0.5 0.5 0.5 0.5\n");
  s.text("lists/train.txt", "images/all/a.png\n");
  s.text("d.json", R"({"names": ["cat"], "train": "lists/train.txt"})");
  const fs::path before = fs::current_path();
  fs::current_path(s.folder.path());
  const Dataset d = open_dataset("d.json", "train", {OnError::kStop});
  fs::current_path(before);
  CHECK(d.samples.at(0).labels.size() == 1);
  CHECK_THAT(error_of([&] { open_dataset(s.folder / "d.json", "train", {OnError::kStop}); }),
             Contains("lists/images/all/a.png does not exist"));
}

TEST_CASE("forms: byte order marks in labels and descriptions") {
  const Set s;
  s.text("classes.json", "\xEF\xBB\xBF{\"names\": [\"cat\"]}");
  s.image("images/train/a.png");
  s.text("labels/train/a.txt",
         "\xEF\xBB\xBF"
         "0 0.5 0.5 0.5 0.5\r\n");
  CHECK(s.open().boxes() == 1);
}

TEST_CASE("folders: links are followed, loops and hidden files are not") {
  const Set s;
  s.text("classes.json", R"({"names": ["cat"]})");
  s.image("images/train/a.png");
  s.image("images/train/sub/b.png");
  s.image("images/train/.hidden.png");
  s.image("images/train/.trash/c.png");
  s.image("depot/images/d.png");
  for (const char* label : {"labels/train/sub/b.txt", "depot/labels/d.txt"})
    s.text(label, "0 0.5 0.5 0.5 0.5\n");
  fs::create_directory_symlink(s.folder / "depot/images", s.folder / "images/train/more");
  fs::create_directory_symlink(s.folder / "depot/labels", s.folder / "labels/train/more");
  fs::create_directory_symlink(s.folder / "images/train", s.folder / "images/train/again");
  fs::create_directory_symlink("..", s.folder / "images/train/sub/up");
  fs::create_directory_symlink("nowhere", s.folder / "images/train/broken");
  const Dataset d = s.open();
  REQUIRE(d.size() == 3);
  CHECK(d.samples[0].image.filename() == "a.png");
  CHECK(d.samples[1].image.filename() == "d.png");
  CHECK(d.samples[2].image.filename() == "b.png");
  CHECK(d.boxes() == 2);
  CHECK(d.images_without_boxes() == 1);
}

TEST_CASE("labels: images without a valid label are left out, not trained as background") {
  const Set s;
  s.text("classes.json", R"({"names": ["cat", "dog"]})");
  for (const char* name : {"a", "b", "c", "d"}) s.image(fmt::format("images/train/{}.png", name));
  s.text("labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n");
  s.text("labels/train/b.txt", "7 0.5 0.5 0.5 0.5\n0 10 10 4 4\n");
  fs::create_directories(s.folder / "labels/train/c.txt");
  const Dataset d = open_dataset(s.folder.path(), "train");
  INFO(d.report.summary());
  REQUIRE(d.size() == 2);
  CHECK(d.samples[0].image.filename() == "a.png");
  CHECK(d.samples[1].image.filename() == "d.png");
  CHECK(d.samples[1].image_id == 1);
  CHECK_THAT(d.report.summary(), Contains("b.png: left out, since none of its labels is valid"));
  CHECK_THAT(d.report.summary(), Contains("c.txt: is a folder"));
  CHECK_THAT(error_of([&] { check_has_boxes(d); }), Contains("no error"));
  s.text("labels/train/a.txt", "");
  const Dataset none = open_dataset(s.folder.path(), "train");
  CHECK_THAT(error_of([&] { check_has_boxes(none); }),
             Contains("2 images and no boxes") && Contains("labels/train/a.txt"));
}

TEST_CASE("labels: many boxes, one row each") {
  const Set s;
  s.text("classes.json", R"({"names": ["cat"]})");
  s.image("images/train/a.png");
  std::string rows;
  for (int i = 0; i < 200000; ++i)
    rows += fmt::format("0 {:.6f} {:.6f} 0.001 0.001\n", 0.1 + 1e-6 * (i % 700000), 0.5);
  s.text("labels/train/a.txt", rows + rows.substr(0, rows.find('\n') + 1));
  const Dataset d = open_dataset(s.folder.path(), "train");
  CHECK(d.boxes() == 200000);
  CHECK(d.report.count("duplicate") == 1);
}

TEST_CASE("labels: a line break in a name stays in the message's line") {
  const LabelIssue issue{"odd\nname.jpg", 3, false, "class", "class 7\n is outside"};
  CHECK(issue.str() == "odd\\nname.jpg:3: class 7\\n is outside");
}
