// SPDX-License-Identifier: Apache-2.0
// The one preprocessing function, against the official letterbox.
#include "core/json.h"
#include "data/image/letterbox.h"
#include "data/image/resize.h"
#include "data/images.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::Contains;
using sextant::test::largest_difference;

TEST_CASE("letterbox: geometry by hand") {
  LetterboxGeometry g = letterbox_geometry(640, 480, {640, 640, true, 114});
  CHECK(g.resized_width == 640);
  CHECK(g.resized_height == 480);
  CHECK(g.left == 0);
  CHECK(g.top == 80);
  // An odd rest: the smaller half is on top.
  g = letterbox_geometry(100, 37, {64, 64, true, 114});
  CHECK(g.resized_height == 24);  // 23.68
  CHECK(g.top == 20);
  g = letterbox_geometry(64, 33, {64, 64, true, 114});
  CHECK(g.top == 15);  // 15.5 - 0.1
  g = letterbox_geometry(50, 40, {64, 64, false, 114});
  CHECK(g.ratio == 1.0);
  CHECK(g.left == 7);
  CHECK(g.top == 12);
  // A sliver keeps one pixel.
  g = letterbox_geometry(5000, 2, {64, 64, true, 114});
  CHECK(g.resized_height == 1);
  CHECK_THAT(test::error_of([] { letterbox_geometry(0, 5, {}); }), Contains("0x5"));
}

TEST_CASE("letterbox: a grey border") {
  const LetterboxGeometry g = letterbox_geometry(1280, 960, {640, 640, true, 114, 3});
  CHECK(g.resized_width == 634);
  CHECK(g.resized_height == 476);  // 475.5
  CHECK(g.left == 3);
  CHECK(g.top == 82);
  const Letterboxed out = letterbox(test::pattern(20, 20, 1), {16, 16, true, 114, 2});
  for (int i = 0; i < 16; ++i)
    for (const int edge : {0, 1, 14, 15}) {
      CHECK(out.canvas.row(edge)[3 * i] == 114);
      CHECK(out.canvas.row(i)[3 * edge] == 114);
    }
  CHECK_THAT(test::error_of([] {
               letterbox_geometry(9, 9, {16, 16, true, 114, 8});
             }),
             Contains("leaves no room on a canvas of 16x16"));
}

TEST_CASE("letterbox: boxes survive the round trip") {
  const LetterboxGeometry g = letterbox_geometry(31, 640, {320, 320, true, 114});
  const Box box{3.5f, 100.25f, 20.0f, 600.0f};
  const Box back = g.to_image(g.to_canvas(box));
  for (size_t k = 0; k < 4; ++k) CHECK(std::abs(back[k] - box[k]) < 1e-4f);
  const Box whole = g.to_canvas({0, 0, 31, 640});
  CHECK(whole[0] == static_cast<float>(g.left));
  CHECK(whole[2] == static_cast<float>(g.left + g.resized_width));
  CHECK(whole[3] == 320.0f);
  const Box clipped = clip_box({-1, 2, 50, 700}, 31, 640);
  CHECK(clipped == Box{0, 2, 31, 640});
}

TEST_CASE("letterbox: the image in the middle, grey around it, and the same from a resized one") {
  const Image image = test::pattern(50, 20, 1);
  const LetterboxOptions options{32, 24, true, 114};
  const Letterboxed out = letterbox(image, options);
  const LetterboxGeometry& g = out.geometry;
  const Image inner = resize_bilinear(image, g.resized_width, g.resized_height);
  for (int y = 0; y < 24; ++y)
    for (int x = 0; x < 32; ++x) {
      const bool inside =
          x >= g.left && x < g.left + g.resized_width && y >= g.top && y < g.top + g.resized_height;
      for (int c = 0; c < 3; ++c) {
        const int expected = inside ? inner.row(y - g.top)[3 * (x - g.left) + c] : 114;
        REQUIRE(int{out.canvas.row(y)[3 * x + c]} == expected);
      }
    }
  Image again = make_image(32, 24);
  letterbox_into(inner, g, 114, again.pixels.data());
  CHECK(largest_difference(again, out.canvas) == 0);
  const Image other = make_image(7, 7);
  CHECK_THAT(test::error_of([&] { letterbox_into(other, g, 114, again.pixels.data()); }),
             Contains("7x7"));
}

TEST_CASE("letterbox: official geometry") {
  SEXTANT_REQUIRE_FIXTURE(f, "post/letterbox_geometry");
  const Tensor& in = f.at("input.h_w_newh_neww_auto_scaleup_stride");
  const Tensor& out = f.at("output.h_w_ratio_left_top_unpadw_unpadh");
  int cases = 0;
  for (int64_t k = 0; k < in.dim(0); ++k) {
    const int64_t* i = in.data<int64_t>() + 7 * k;
    const double* o = out.data<double>() + 7 * k;
    const LetterboxGeometry g =
        letterbox_geometry(static_cast<int>(i[1]), static_cast<int>(i[0]),
                           {static_cast<int>(i[3]), static_cast<int>(i[2]), i[5] != 0, 114});
    INFO("row " << k << ": " << i[1] << "x" << i[0] << " onto " << i[3] << "x" << i[2]);
    CHECK(std::abs(g.ratio - o[2]) < 1e-12);
    if (o[5] < 1 || o[6] < 1) continue;  // a side that vanishes there; here it keeps one pixel
    CHECK(g.resized_width == static_cast<int>(o[5]));
    CHECK(g.resized_height == static_cast<int>(o[6]));
    if (i[4] != 0) continue;  // `auto` pads to a multiple of the stride only: not what we do
    CHECK(g.left == static_cast<int>(o[3]));
    CHECK(g.top == static_cast<int>(o[4]));
    ++cases;
  }
  CHECK(cases > 0);
}

TEST_CASE("letterbox: official pixels, bit for bit") {
  SEXTANT_REQUIRE_FIXTURE(f, "post/letterbox_image");
  const Image image = test::image_from_bgr(f.at("input.image"));
  const auto cases = Json::parse(f.meta("cases"));
  int seen = 0;
  for (const auto& [name, c] : cases.items()) {
    if (c.at("auto").get<bool>()) continue;
    const int height = c.at("new_shape")[0];
    const int width = c.at("new_shape")[1];
    const Letterboxed out = letterbox(image, {width, height, c.at("scaleup").get<bool>(), 114});
    INFO(name);
    CHECK(largest_difference(out.canvas, test::image_from_bgr(f.at("output." + name))) == 0);
    CHECK(out.geometry.left == c.at("pad")[0].get<int>());
    CHECK(out.geometry.top == c.at("pad")[1].get<int>());
    ++seen;
  }
  CHECK(seen > 0);
}

TEST_CASE("letterbox: official image loading, bit for bit") {
  SEXTANT_REQUIRE_FIXTURE(f, "data/load_image");
  const Json cases = Json::parse(f.meta("cases"));
  CHECK_FALSE(cases.empty());
  for (const auto& c : cases) {
    const std::string name = c.at("name");
    const int size = c.at("img_size");
    const int width = c.at("loaded_w");
    const int height = c.at("loaded_h");
    const Image image = test::image_from_bgr(f.at(name + ".input.image"));
    const bool shrinks = width < image.width || height < image.height;
    const Image loaded = shrinks && !c.at("augment").get<bool>()
                             ? resize_area(image, width, height)
                             : resize_bilinear(image, width, height);
    INFO(name);
    CHECK(largest_difference(loaded, test::image_from_bgr(f.at(name + ".output.loaded"))) == 0);
    const Letterboxed out = letterbox(loaded, {size, size, c.at("augment").get<bool>(), 114});
    CHECK(largest_difference(out.canvas,
                             test::image_from_bgr(f.at(name + ".output.letterboxed"))) == 0);
  }
}

TEST_CASE("letterbox: official mapping back to the image") {
  SEXTANT_REQUIRE_FIXTURE(f, "post/rescale_boxes");
  const auto cases = Json::parse(f.meta("cases"));
  CHECK_FALSE(cases.empty());
  for (size_t k = 0; k < cases.size(); ++k) {
    const auto& c = cases[k];
    const int height = c.at("ori_shape")[0];
    const int width = c.at("ori_shape")[1];
    const LetterboxGeometry g = letterbox_geometry(
        width, height, {c.at("img_shape")[1].get<int>(), c.at("img_shape")[0].get<int>()});
    const std::string id = std::to_string(k);
    const Tensor& in = f.at("input." + id + ".boxes");
    const Tensor& out = f.at("output." + id + ".evaler_scale_coords");
    double worst = 0;
    for (int64_t r = 0; r < in.dim(0); ++r) {
      const float* b = in.f32() + 4 * r;
      const Box box = clip_box(g.to_image({b[0], b[1], b[2], b[3]}), width, height);
      for (size_t j = 0; j < 4; ++j)
        worst =
            std::max(worst, std::abs(double{box[j]} - out.f32()[4 * r + static_cast<int64_t>(j)]));
    }
    INFO("case " << k << ", largest difference " << worst);
    CHECK(worst < 1e-3);
  }
}
