// SPDX-License-Identifier: Apache-2.0
// Affine, mosaic, mixup and flips against the official code, and whole samples.
#include "core/json.h"
#include "data/augment/augment.h"
#include "data/image/letterbox.h"
#include "data/images.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::Contains;
using sextant::test::largest_difference;
using sextant::test::number_at;

namespace {

AffineDraws draws_of(const Tensor& t, int64_t first) {
  const double* d = t.data<double>() + 3 * first;
  return {d[2], d[5], d[8], d[11], d[14], d[17]};
}

std::vector<PixelLabel> pixel_labels(const Tensor& t) {
  std::vector<PixelLabel> labels;
  for (int64_t r = 0; r < t.dim(0); ++r) {
    auto v = [&](int64_t k) { return static_cast<float>(number_at(t, 5 * r + k)); };
    labels.push_back({static_cast<int>(v(0)), v(1), v(2), v(3), v(4)});
  }
  return labels;
}

// Classes must be equal; the largest difference of a coordinate.
double difference(const std::vector<PixelLabel>& a, const std::vector<PixelLabel>& b) {
  if (a.size() != b.size()) return 1e9;
  double worst = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    if (a[k].category != b[k].category) return 1e9;
    for (const double d : {double{a[k].x1} - b[k].x1, double{a[k].y1} - b[k].y1,
                           double{a[k].x2} - b[k].x2, double{a[k].y2} - b[k].y2})
      worst = std::max(worst, std::abs(d));
  }
  return worst;
}

}  // namespace

TEST_CASE("affine: the matrix by hand") {
  // Neutral draws centre the source on the result.
  const AffineMatrix m = affine_matrix({}, 200, 100, 80, 60);
  CHECK(m == AffineMatrix{1, 0, -60, 0, 1, -20});
  const AffineMatrix twice = affine_matrix({0, 2, 0, 0, 0.5, 0.5}, 10, 10, 10, 10);
  CHECK(twice == AffineMatrix{2, 0, -5, 0, 2, -5});
  // A quarter turn counter-clockwise takes the right edge's middle to the top edge's middle.
  const AffineMatrix turn = affine_matrix({90, 1, 0, 0, 0.5, 0.5}, 10, 10, 10, 10);
  CHECK(std::abs(turn[0] * 10 + turn[1] * 5 + turn[2] - 5) < 1e-12);
  CHECK(std::abs(turn[3] * 10 + turn[4] * 5 + turn[5] - 0) < 1e-12);
}

TEST_CASE("affine: warping by hand") {
  const Image image = test::pattern(20, 15, 2);
  CHECK(largest_difference(warp_affine(image, {1, 0, 0, 0, 1, 0}, 20, 15), image) == 0);
  const Image moved = warp_affine(image, {1, 0, 3, 0, 1, -2}, 20, 15);
  for (int y = 0; y < 15; ++y)
    for (int x = 0; x < 20; ++x) {
      const bool inside = x >= 3 && y + 2 < 15;
      const int expected = inside ? image.row(y + 2)[3 * (x - 3)] : 114;
      REQUIRE(int{moved.row(y)[3 * x]} == expected);
    }
  // Half a pixel: the mean of two, border included.
  const Image line{2, 1, {100, 100, 100, 200, 200, 200}};
  const Image half = warp_affine(line, {1, 0, 0.5, 0, 1, 0}, 3, 1, 0);
  CHECK(half.pixels == std::vector<uint8_t>{50, 50, 50, 150, 150, 150, 100, 100, 100});
  // A matrix without inverse shows one source pixel everywhere; it does not crash.
  CHECK(warp_affine(image, {0, 0, 5, 0, 0, 5}, 4, 4).pixels.size() == 48);
}

TEST_CASE("affine: rows and columns that stay such give the integers of the general form") {
  const Image image = test::pattern(37, 29, 3);
  Rng rng(8);
  for (int k = 0; k < 40; ++k) {
    const double sx = rng.uniform(-1.5, 1.5), sy = rng.uniform(0.2, 3.0);
    const double tx = rng.uniform(-60, 60), ty = rng.uniform(-60, 60);
    // The slope is far below what a coordinate resolves.
    const Image straight = warp_affine(image, {sx, 0, tx, 0, sy, ty}, 41, 33);
    const Image general = warp_affine(image, {sx, 1e-200, tx, 0, sy, ty}, 41, 33);
    CHECK(largest_difference(straight, general) == 0);
  }
}

TEST_CASE("affine: a warp looks at its window only") {
  Rng rng(9);
  for (int k = 0; k < 60; ++k) {
    const AffineDraws draws{rng.uniform(-40, 40) * (k % 2),
                            rng.uniform(0.4, 1.9),
                            rng.uniform(-5, 5) * (k % 2),
                            0,
                            rng.uniform(),
                            rng.uniform()};
    const AffineMatrix m = affine_matrix(draws, 64, 48, 32, 24);
    const Window w = seen_through(m, 32, 24, 64, 48);
    const Image inside = test::pattern(64, 48, 5);
    Image other = make_image(64, 48, 255);
    for (int y = w.top; y < w.bottom; ++y)
      std::copy(inside.row(y) + 3 * w.left, inside.row(y) + 3 * std::max(w.left, w.right),
                other.row(y) + 3 * w.left);
    CHECK(largest_difference(warp_affine(inside, m, 32, 24), warp_affine(other, m, 32, 24)) == 0);
  }
}

TEST_CASE("affine: boxes by hand") {
  const std::vector<PixelLabel> labels{
      {1, 10, 10, 30, 40}, {2, 10, 10, 11, 40}, {0, 90, 10, 99, 20}};
  // Moved 80 to the right on a 100 x 100 result: the first keeps half, the others go.
  const auto moved = transform_labels(labels, {1, 0, 80, 0, 1, 0}, 1.0, 100, 100);
  REQUIRE(moved.size() == 1);
  CHECK(difference(moved, {{1, 90, 10, 100, 40}}) == 0);
  // A box of which less than a tenth is left goes.
  CHECK(transform_labels({{1, 0, 0, 50, 50}}, {1, 0, 96, 0, 1, 0}, 1.0, 100, 100).empty());
  CHECK(transform_labels({{1, 0, 0, 50, 50}}, {1, 0, 94, 0, 1, 0}, 1.0, 100, 100).size() == 1);
}

TEST_CASE("affine: official random_affine") {
  SEXTANT_REQUIRE_FIXTURE(f, "data/random_affine");
  const auto images = test::parts_of_names(f, "", ".output.image");
  size_t warped_images = 0;
  int64_t kept = 0, boxes = 0;
  for (const auto& c : Json::parse(f.meta("cases"))) {
    const std::string name = c.at("name");
    const int width = c.at("new_w");
    const int height = c.at("new_h");
    INFO(name);
    const AffineDraws draws = draws_of(f.at(name + ".input.draws_a_b_value"), 0);
    const AffineMatrix m = affine_matrix(draws, c.at("img_w"), c.at("img_h"), width, height);
    double worst = 0;
    for (int64_t k = 0; k < 6; ++k)
      worst = std::max(
          worst, std::abs(m[static_cast<size_t>(k)] - number_at(f.at(name + ".output.M"), k)));
    CHECK(worst < 1e-12);
    CHECK(draws.scale == number_at(f.at(name + ".output.scale"), 0));
    const auto labels =
        transform_labels(pixel_labels(f.at(name + ".input.labels")), m, draws.scale, width, height);
    CHECK(difference(labels, pixel_labels(f.at(name + ".output.labels"))) < 1e-4);
    kept += std::ssize(labels);
    boxes += f.at(name + ".input.labels").dim(0);
    if (const Tensor* image = f.find(name + ".output.image")) {
      const Image warped =
          warp_affine(test::image_from_bgr(f.at(name + ".input.image")), m, width, height);
      CHECK(largest_difference(warped, test::image_from_bgr(*image)) == 0);
      ++warped_images;
    }
  }
  CHECK(warped_images == images.size());
  CHECK(kept > 0);
  CHECK(kept < boxes);
}

TEST_CASE("affine: official box_candidates") {
  SEXTANT_REQUIRE_FIXTURE(f, "data/box_candidates");
  const Tensor& a = f.at("input.box1");
  const Tensor& b = f.at("input.box2");
  const int64_t n = a.dim(1);
  auto box = [&](const Tensor& t, int64_t i) {
    return std::array<double, 4>{number_at(t, i), number_at(t, n + i), number_at(t, 2 * n + i),
                                 number_at(t, 3 * n + i)};
  };
  int64_t kept = 0;
  for (int64_t i = 0; i < n; ++i) {
    INFO("box " << i);
    const bool keep = box_candidate(box(a, i), box(b, i));
    CHECK(keep == (f.at("output.keep").data<uint8_t>()[i] != 0));
    CHECK(box_candidate(box(a, i), box(b, i), {5, 4, 0.02}) ==
          (f.at("output.keep_strict").data<uint8_t>()[i] != 0));
    kept += keep;
  }
  CHECK(kept > 0);
  CHECK(kept < n);
}

TEST_CASE("mosaic: four tiles by hand") {
  const std::array<Image, 4> images{make_image(6, 8, 10), make_image(8, 8, 20),
                                    make_image(8, 4, 30), make_image(8, 8, 40)};
  const std::vector<Label> box{{3, 0.5f, 0.5f, 0.5f, 0.5f, false, 0}};
  const std::vector<Label> crowd{{3, 0.5f, 0.5f, 0.5f, 0.5f, true, 0}};
  const test::Mosaic m = test::make_mosaic(
      {{{&images[0], &box}, {&images[1], nullptr}, {&images[2], &crowd}, {&images[3], &box}}}, 8, 8,
      5, 9);
  REQUIRE(m.canvas.width == 16);
  REQUIRE(m.canvas.height == 16);
  auto at = [&](int x, int y) { return int{m.canvas.row(y)[3 * x]}; };
  CHECK(at(0, 1) == 10);
  CHECK(at(4, 8) == 10);
  CHECK(at(0, 0) == 114);  // above the first tile
  CHECK(at(5, 1) == 20);
  CHECK(at(12, 8) == 20);
  CHECK(at(13, 8) == 114);
  CHECK(at(4, 9) == 30);
  CHECK(at(4, 13) == 114);  // below the third
  CHECK(at(5, 9) == 40);
  CHECK(at(12, 15) == 40);
  // The first tile's corner is at (-1, 1), its box from 1.5 to 4.5 and from 2 to 6 in it.
  CHECK(difference(m.labels, {{3, 0.5f, 3, 3.5f, 7}, {3, 7, 11, 11, 15}}) == 0);
}

TEST_CASE("mosaic: official mosaic_augmentation") {
  SEXTANT_REQUIRE_FIXTURE(f, "data/mosaic");
  const Json cases = Json::parse(f.meta("cases"));
  CHECK_FALSE(cases.empty());
  for (const auto& c : cases) {
    const std::string name = c.at("name");
    const int width = c.at("target_w");
    const int height = c.at("target_h");
    INFO(name);
    std::array<Image, 4> images;
    std::array<std::vector<Label>, 4> labels;
    std::array<MosaicTile, 4> tiles;
    for (size_t k = 0; k < 4; ++k) {
      const std::string id = "." + std::to_string(k);
      images[k] = test::image_from_bgr(f.at(name + ".input.image" + id));
      const Tensor& t = f.at(name + ".input.labels" + id);
      for (int64_t r = 0; r < t.dim(0); ++r) {
        const float* v = t.f32() + 5 * r;
        labels[k].push_back({static_cast<int>(v[0]), v[1], v[2], v[3], v[4], false, 0});
      }
      tiles[k] = {&images[k], &labels[k]};
    }
    const test::Mosaic m = test::make_mosaic(tiles, width, height, c.at("xc"), c.at("yc"));
    CHECK(largest_difference(m.canvas, test::image_from_bgr(f.at(name + ".output.canvas"))) == 0);
    const double canvas = difference(m.labels, pixel_labels(f.at(name + ".output.canvas_labels")));
    CHECK(canvas < 1e-4);
    const AffineDraws draws = draws_of(f.at(name + ".input.draws_a_b_value"), 2);
    const AffineMatrix matrix =
        affine_matrix(draws, m.canvas.width, m.canvas.height, width, height);
    CHECK(largest_difference(warp_affine(m.canvas, matrix, width, height),
                             test::image_from_bgr(f.at(name + ".output.image"))) == 0);
    const double final_boxes =
        difference(transform_labels(m.labels, matrix, draws.scale, width, height),
                   pixel_labels(f.at(name + ".output.labels")));
    CHECK(final_boxes < 1e-4);
  }
}

TEST_CASE("mixup: by hand") {
  std::vector<uint8_t> a{100, 0, 255};
  mixup(a.data(), std::vector<uint8_t>{50, 255, 254}.data(), 3, 0.25);
  CHECK(a == std::vector<uint8_t>{62, 191, 254});
}

TEST_CASE("mixup: official mixup") {
  SEXTANT_REQUIRE_FIXTURE(f, "data/mixup");
  for (const std::string& id : test::parts_of_names(f, "output.", ".image")) {
    Image image = test::image_from_bgr(f.at("input.image1"));
    const Image other = test::image_from_bgr(f.at("input.image2"));
    mixup(image.pixels.data(), other.pixels.data(), static_cast<int64_t>(image.pixels.size()),
          number_at(f.at("input." + id + ".r"), 0));
    CHECK(largest_difference(image, test::image_from_bgr(f.at("output." + id + ".image"))) == 0);
  }
}

TEST_CASE("mixup: ratios are those of Beta(32, 32)") {
  Rng rng(9);
  double sum = 0;
  double squares = 0;
  constexpr int kN = 4000;
  for (int k = 0; k < kN; ++k) {
    const double r = draw_mixup_ratio(rng);
    REQUIRE(r > 0);
    REQUIRE(r < 1);
    sum += r;
    squares += (r - 0.5) * (r - 0.5);
  }
  CHECK(std::abs(sum / kN - 0.5) < 0.005);
  CHECK(std::abs(squares / kN * 4 * 65 - 1) < 0.1);  // variance 1 / (4 * 65)
}

TEST_CASE("flips: pictures and boxes") {
  Image image{3, 2, {}};
  for (int k = 0; k < 18; ++k) image.pixels.push_back(static_cast<uint8_t>(k));
  std::vector<PixelLabel> labels{{0, 0, 0.5f, 1, 2}};
  flip_left_right(image.pixels.data(), 3, 2);
  flip_left_right(labels, 3);
  CHECK(image.pixels ==
        std::vector<uint8_t>{6, 7, 8, 3, 4, 5, 0, 1, 2, 15, 16, 17, 12, 13, 14, 9, 10, 11});
  CHECK(difference(labels, {{0, 2, 0.5f, 3, 2}}) == 0);
  flip_up_down(image.pixels.data(), 3, 2);
  flip_up_down(labels, 2);
  CHECK(image.pixels[0] == 15);
  CHECK(image.pixels[9] == 6);
  CHECK(difference(labels, {{0, 2, 0, 3, 1.5f}}) == 0);
}

namespace {

// A few pictures in memory.
struct Source {
  std::vector<std::shared_ptr<const Image>> images;
  std::vector<std::vector<Label>> labels;
  SampleSource source() const {
    return {static_cast<int64_t>(images.size()), [this](int64_t k) {
              const auto i = static_cast<size_t>(k);
              return LoadedSample{images[i], &labels[i]};
            }};
  }
};

// The augmented sample in `out`, of its size, and its labels.
std::vector<PixelLabel> augment_sample(const SampleSource& source, int64_t index,
                                       const AugmentConfig& config, bool mosaic_on, Rng& rng,
                                       Image& out) {
  const ImageSize size{out.width, out.height};
  const AugmentPlan plan = plan_augmentation(source, index, size, config, mosaic_on, rng);
  Image canvas;
  paint(plan, size, canvas, out.pixels.data());
  return plan.labels;
}

Source make_source(int size) {
  Source s;
  for (int k = 0; k < 6; ++k) {
    // A bright box on a dark ground, and its label.
    Image image = make_image(size, size * 3 / 4, static_cast<uint8_t>(20 + k));
    const int x = size / 8 * (1 + k % 3);
    const int y = size / 8 * (1 + k % 2);
    const int w = size / 3;
    const int h = size / 4;
    for (int r = y; r < y + h; ++r) std::fill_n(image.row(r) + 3 * x, 3 * w, uint8_t{250});
    s.labels.push_back(
        {{k, (static_cast<float>(x) + static_cast<float>(w) / 2) / static_cast<float>(image.width),
          (static_cast<float>(y) + static_cast<float>(h) / 2) / static_cast<float>(image.height),
          static_cast<float>(w) / static_cast<float>(image.width),
          static_cast<float>(h) / static_cast<float>(image.height), false, 0}});
    s.images.push_back(std::make_shared<const Image>(std::move(image)));
  }
  return s;
}

}  // namespace

TEST_CASE("augment: a sample without any augmentation is the letterboxed one") {
  const Source s = make_source(64);
  AugmentConfig config;
  config.translate = config.scale = config.fliplr = config.hsv_h = config.hsv_s = config.hsv_v = 0;
  config.mosaic = 0;
  Rng rng(1);
  Image out = make_image(64, 64);
  const auto labels = augment_sample(s.source(), 2, config, true, rng, out);
  CHECK(largest_difference(out, letterbox(*s.images[2], {64, 64}).canvas) == 0);
  REQUIRE(labels.size() == 1);
  CHECK(difference(labels, {{2, 24, 16, 45, 32}}) < 1e-4);
  Image wide = make_image(96, 64);
  augment_sample(s.source(), 2, config, true, rng, wide);
  CHECK(largest_difference(wide, letterbox(*s.images[2], {96, 64}).canvas) == 0);
}

TEST_CASE("augment: boxes stay on what they mark") {
  const Source s = make_source(64);
  AugmentConfig config;
  config.flipud = 0.5;
  config.hsv_h = config.hsv_s = config.hsv_v = 0;
  int boxes = 0;
  for (uint64_t seed = 0; seed < 120; ++seed) {
    const ImageSize size =
        seed < 40 ? ImageSize{64, 64} : (seed < 80 ? ImageSize{96, 64} : ImageSize{64, 96});
    CAPTURE(seed, size.width, size.height);
    Image out = make_image(size.width, size.height);
    Rng rng(seed);
    const auto labels =
        augment_sample(s.source(), static_cast<int64_t>(seed % 6), config, seed % 2 == 0, rng, out);
    for (const PixelLabel& l : labels) {
      REQUIRE(l.x1 >= 0);
      REQUIRE(l.x2 <= size.width);
      REQUIRE(l.y1 >= 0);
      REQUIRE(l.y2 <= size.height);
      // Inside the box, a pixel away from its sides, all is bright; around it, it is not.
      const int x1 = static_cast<int>(std::ceil(l.x1)) + 2;
      const int x2 = static_cast<int>(std::floor(l.x2)) - 3;
      const int y1 = static_cast<int>(std::ceil(l.y1)) + 2;
      const int y2 = static_cast<int>(std::floor(l.y2)) - 3;
      if (x1 > x2 || y1 > y2) continue;
      ++boxes;
      for (int y = y1; y <= y2; ++y)
        for (int x = x1; x <= x2; ++x) REQUIRE(int{out.row(y)[3 * x]} > 240);
      const int left = static_cast<int>(l.x1) - 3;
      if (left >= 0) CHECK(int{out.row((y1 + y2) / 2)[3 * left]} < 240);
    }
  }
  CHECK(boxes > 120);
}

TEST_CASE("augment: the sample depends on the draws alone") {
  const Source s = make_source(64);
  AugmentConfig config;
  config.mixup = 0.5;
  auto make = [&](uint64_t seed, bool mosaic_on) {
    Rng rng(seed);
    Image out = make_image(64, 64);
    augment_sample(s.source(), 1, config, mosaic_on, rng, out);
    return out;
  };
  CHECK(largest_difference(make(4, true), make(4, true)) == 0);
  CHECK(largest_difference(make(4, true), make(5, true)) > 0);
  CHECK(largest_difference(make(4, false), make(4, true)) > 0);
  Rng rng(1);
  Image out = make_image(64, 64);
  CHECK_THAT(test::error_of([&] { augment_sample(s.source(), 6, config, true, rng, out); }),
             Contains("sample 6 is out of range, there are 6"));
}
