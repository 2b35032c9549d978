// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <sstream>

#include "core/config.h"
#include "core/file.h"
#include "core/parallel.h"
#include "data/synthetic/shapes_dataset.h"
#include "data/synthetic/shapes_paint.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;
namespace fs = std::filesystem;

namespace {

ShapesConfig small_config() {
  ShapesConfig c;
  c.width = 160;
  c.height = 120;
  c.min_size = 0.15;
  return c;
}

std::vector<fs::path> sorted_files(const fs::path& folder) {
  std::vector<fs::path> out;
  for (const auto& e : fs::recursive_directory_iterator(folder))
    if (e.is_regular_file()) out.push_back(fs::relative(e.path(), folder));
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

TEST_CASE("a picture of shapes depends on seed, split and index only") {
  ShapesConfig c = small_config();
  const ShapesSample a = draw_shapes(c, "train", 3), b = draw_shapes(c, "train", 3);
  CHECK(a.image.width == 160);
  CHECK(a.image.height == 120);
  REQUIRE(a.image.pixels == b.image.pixels);
  REQUIRE(a.boxes.size() == b.boxes.size());
  for (size_t i = 0; i < a.boxes.size(); ++i) CHECK(a.boxes[i].x0 == b.boxes[i].x0);
  CHECK(draw_shapes(c, "train", 4).image.pixels != a.image.pixels);
  CHECK(draw_shapes(c, "val", 3).image.pixels != a.image.pixels);
  c.train = 7;  // how many there are changes none of them
  CHECK(draw_shapes(c, "train", 3).image.pixels == a.image.pixels);
  c.seed = 2;
  CHECK(draw_shapes(c, "train", 3).image.pixels != a.image.pixels);
}

TEST_CASE("shape boxes lie in the picture and every class occurs") {
  const ShapesConfig c = small_config();
  std::vector<int> count(shape_names().size());
  REQUIRE(count.size() >= 5);
  size_t most = 0;
  for (int i = 0; i < 60; ++i) {
    const ShapesSample s = draw_shapes(c, "train", i);
    REQUIRE(!s.boxes.empty());
    most = std::max(most, s.boxes.size());
    for (const ShapeBox& b : s.boxes) {
      REQUIRE(b.class_id >= 0);
      REQUIRE(b.class_id < static_cast<int>(count.size()));
      ++count[static_cast<size_t>(b.class_id)];
      CHECK(b.x0 >= 0);
      CHECK(b.y0 >= 0);
      CHECK(b.x1 <= c.width);
      CHECK(b.y1 <= c.height);
      CHECK(b.x1 - b.x0 > 5);
      CHECK(b.y1 - b.y0 > 5);
      CHECK(std::max(b.x1 - b.x0, b.y1 - b.y0) <= c.max_size * c.height + 1e-9);
    }
  }
  for (const int n : count) CHECK(n >= 10);
  CHECK(most >= 4);
}

TEST_CASE("bounds of a shape are tight and its distance function is exact") {
  Rng rng(11);
  for (int k = 0; k < 30; ++k) {
    const int class_id = k % static_cast<int>(shape_names().size());
    const auto o = shapes::make_shape(class_id, 50.3, 47.8, 60, rng);
    INFO(shape_names()[static_cast<size_t>(class_id)]);
    const auto mask = shapes::rasterize(o);
    Rect seen{1e9, 1e9, -1e9, -1e9};
    mask.each([&](int x, int y, float coverage) {
      if (coverage <= 0.05f) return;
      seen = {std::min<double>(seen.x0, x), std::min<double>(seen.y0, y),
              std::max<double>(seen.x1, x + 1), std::max<double>(seen.y1, y + 1)};
    });
    // Sharp corners cover little of their last pixels.
    CHECK(std::abs(seen.x0 - o.bounds.x0) < 2.5);
    CHECK(std::abs(seen.y0 - o.bounds.y0) < 2.5);
    CHECK(std::abs(seen.x1 - o.bounds.x1) < 2.5);
    CHECK(std::abs(seen.y1 - o.bounds.y1) < 2.5);
    CHECK(o.bounds.x1 - o.bounds.x0 <= 60 + 1e-9);
    CHECK(mask.area > 300);
    CHECK(mask.area < 0.8 * 60 * 60);
    // Far outside the distance grows by one pixel per pixel.
    CHECK(o.distance(500, 48) - o.distance(499, 48) == Approx(1).margin(0.02));
    CHECK((o.distance(50.3, 47.8) < 0) == (class_id != 5));
  }
}

TEST_CASE("shapes are written as a YOLO dataset, the same for any number of threads") {
  const test::TemporaryFolder folder;
  ShapesConfig c = small_config();
  c.train = 4;
  c.val = 2;
  const int before = num_threads();
  set_num_threads(1);
  generate_shapes(folder / "a", c);
  set_num_threads(3);
  generate_shapes(folder / "b", c);
  set_num_threads(before);

  const auto files = sorted_files(folder / "a");
  REQUIRE(files == sorted_files(folder / "b"));
  CHECK(files.size() == 13);
  for (const auto& f : files) {
    INFO(f.string());
    CHECK(read_bytes(folder / "a" / f) == read_bytes(folder / "b" / f));
  }
  CHECK(load_json(folder / "a/classes.json").at("names").get<std::vector<std::string>>() ==
        shape_names());
  const ShapesSample s = draw_shapes(c, "val", 1);
  CHECK(load_image(folder / "a/images/val/000001.png").pixels == s.image.pixels);
  std::istringstream text(read_text(folder / "a/labels/val/000001.txt"));
  size_t i = 0;
  for (double id, cx, cy, w, h; text >> id >> cx >> cy >> w >> h; ++i) {
    REQUIRE(i < s.boxes.size());
    const ShapeBox& b = s.boxes[i];
    CHECK(id == b.class_id);
    CHECK((cx - w / 2) * c.width == Approx(b.x0).margin(1e-3));
    CHECK((cy - h / 2) * c.height == Approx(b.y0).margin(1e-3));
    CHECK((cx + w / 2) * c.width == Approx(b.x1).margin(1e-3));
    CHECK((cy + h / 2) * c.height == Approx(b.y1).margin(1e-3));
  }
  CHECK(i == s.boxes.size());
}

TEST_CASE("shapes: bad configs and folders are named") {
  ShapesConfig c = small_config();
  c.width = 8;
  CHECK(test::error_of([&] { draw_shapes(c, "train", 0); }) ==
        "shapes: width 8 and height 120 must be in [32, 8192]");
  c = small_config();
  c.max_shapes = 0;
  CHECK(test::error_of([&] { draw_shapes(c, "train", 0); }) ==
        "shapes: min_shapes 1 and max_shapes 0 must be rising and in [1, 100]");
  c = small_config();
  c.train = c.val = 1;
  const test::TemporaryFolder folder;
  write_atomically(folder / "file", "x");
  CHECK(test::error_of([&] { generate_shapes(folder / "file", c); }).find("file/images/train") !=
        std::string::npos);
}
