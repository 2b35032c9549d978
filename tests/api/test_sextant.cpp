// SPDX-License-Identifier: Apache-2.0
// The C and C++ interfaces of libsextant, beside the engine's own detector.
#include <atomic>
#include <cmath>
#include <cstddef>
#include <thread>

#include "api/small_detector.h"
#include "core/file.h"
#include "deploy/detect/detector.h"
#include "deploy/graph/file.h"
#include "sextant/detector.h"

namespace sextant::test {
namespace {

// A small detector with ranges, as a file; and an image of odd sides.
struct Sample {
  TemporaryFolder folder;
  std::string path = (folder / "model.st").string();
  deploy::Graph graph;
  data::Image image = data::make_image(53, 37);

  Sample() {
    deploy::save_deploy(path, small_detector());
    graph = deploy::load_deploy(path);
    const Tensor noise = random_images({1, image.height, image.width, 3}, 7);
    std::copy_n(noise.data<uint8_t>(), image.pixels.size(), image.pixels.begin());
  }

  std::vector<kernels::Detection> expected(const data::Image& picture) const {
    deploy::DetectorConfig config;
    config.image_size = kSize;
    config.precision = deploy::Precision::kInt8;
    config.nms.conf = 0.05f;
    config.nms.max_det = 20;
    return deploy::Detector(graph, config).run(picture);
  }
};

DetectorOptions options() {
  DetectorOptions o;
  o.device = "cpu";
  o.min_score = 0.05f;
  o.max_boxes = 20;
  return o;
}

bool equal(const std::vector<Box>& boxes, const std::vector<kernels::Detection>& expected) {
  return std::ranges::equal(boxes, expected, [](const Box& a, const kernels::Detection& b) {
    return a.x1 == b.x1 && a.y1 == b.y1 && a.x2 == b.x2 && a.y2 == b.y2 && a.score == b.score &&
           a.class_id == b.class_id;
  });
}

// `image` in another format, each row followed by `gap` bytes.
std::vector<uint8_t> rows_of(const data::Image& image, std::array<int, 3> rgb, int bytes, int gap) {
  std::vector<uint8_t> out;
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      std::vector<uint8_t> pixel(static_cast<size_t>(bytes), 200);
      for (size_t c = 0; c < 3; ++c)
        pixel[static_cast<size_t>(rgb[c])] = image.row(y)[3 * x + static_cast<int>(c)];
      out.insert(out.end(), pixel.begin(), pixel.end());
    }
    out.insert(out.end(), static_cast<size_t>(gap), 99);
  }
  return out;
}

std::string library_error(const std::function<void()>& f) {
  try {
    f();
  } catch (const api::Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("library: pixels of every format and stride give the engine's boxes") {
  const Sample sample;
  const auto expected = sample.expected(sample.image);
  REQUIRE(!expected.empty());
  Detector detector(sample.path, options());
  CHECK(detector.precision() == "int8");
  CHECK(detector.device_name() == "cpu");
  CHECK(detector.image_size() == kSize);
  REQUIRE(detector.class_count() > 0);
  CHECK(detector.class_name(0) == "0");

  const int w = sample.image.width;
  const int h = sample.image.height;
  CHECK(equal(detector.detect({sample.image.pixels.data(), w, h}), expected));
  for (const int gap : {0, 5}) {
    const auto bgr = rows_of(sample.image, {2, 1, 0}, 3, gap);
    CHECK(
        equal(detector.detect({bgr.data(), w, h, Pixels::kBgr, gap ? 3 * w + gap : 0}), expected));
    const auto rgba = rows_of(sample.image, {0, 1, 2}, 4, gap);
    CHECK(equal(detector.detect({rgba.data(), w, h, Pixels::kRgba, 4 * w + gap}), expected));
    const auto bgra = rows_of(sample.image, {2, 1, 0}, 4, gap);
    CHECK(equal(detector.detect({bgra.data(), w, h, Pixels::kBgra, 4 * w + gap}), expected));
  }
  data::Image grey = sample.image;
  for (size_t i = 0; i < grey.pixels.size(); ++i) grey.pixels[i] = grey.pixels[i / 3 * 3];
  const auto one = rows_of(grey, {0, 0, 0}, 1, 2);
  CHECK(equal(detector.detect({one.data(), w, h, Pixels::kGrey, w + 2}), sample.expected(grey)));
}

TEST_CASE("library: batches of different images, and too little room for all boxes") {
  const Sample sample;
  data::Image other = data::make_image(kSize, 40, 17);
  std::copy_n(sample.image.pixels.begin(), sample.image.pixels.size(), other.pixels.begin());
  Detector detector(sample.path, options());
  const auto lists = detector.detect({ImageView{sample.image.pixels.data(), 53, 37},
                                      ImageView{other.pixels.data(), other.width, other.height}});
  REQUIRE(lists.size() == 2);
  CHECK(equal(lists[0], sample.expected(sample.image)));
  CHECK(equal(lists[1], sample.expected(other)));
  CHECK(detector.detect(std::vector<ImageView>{}).empty());

  sextant_options o;
  sextant_default_options(&o, sizeof(o));
  o.min_score = 0.05f;
  sextant_detector* handle = nullptr;
  REQUIRE(sextant_open(sample.path.c_str(), &o, &handle) == SEXTANT_OK);
  sextant_box boxes[2] = {{}, {7, 7, 7, 7, 7, 7}};
  int64_t found = 0;
  REQUIRE(sextant_detect(handle, sample.image.pixels.data(), 53, 37, 0, SEXTANT_RGB, boxes, 1,
                         &found) == SEXTANT_OK);
  CHECK(found == 1);
  CHECK(boxes[0].score == sample.expected(sample.image)[0].score);
  CHECK(boxes[1].score == 7);
  CHECK(sextant_class_name(handle, -1) == nullptr);
  CHECK(sextant_class_name(handle, 1000) == nullptr);
  sextant_close(handle);
  sextant_close(nullptr);
}

TEST_CASE("library: several threads, with separate detectors and with a shared one") {
  const Sample sample;
  const auto expected = sample.expected(sample.image);
  Detector shared(sample.path, options());
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      DetectorOptions mine = options();
      mine.threads = 1 + t % 2;
      Detector own(sample.path, mine);
      for (int i = 0; i < 5; ++i) {
        const ImageView view{sample.image.pixels.data(), 53, 37};
        right += equal(own.detect(view), expected) && equal(shared.detect(view), expected);
      }
    });
  for (auto& t : threads) t.join();
  CHECK(right == 20);
}

TEST_CASE("library: each mistake gives one line that names it") {
  const Sample sample;
  CHECK(library_error([&] { Detector("absent.st"); }).find("absent.st") != std::string::npos);
  const auto junk = sample.folder / "junk.st";
  write_atomically(junk, "not a model");
  CHECK(library_error([&] { Detector(junk.string()); }).find("junk.st") != std::string::npos);
  const auto with = [&](auto change) {
    DetectorOptions o = options();
    change(o);
    return library_error([&] { Detector(sample.path, o); });
  };
  CHECK(with([](auto&) {}).empty());
  CHECK(with([](auto& o) { o.device = "tpu"; }).find("tpu") != std::string::npos);
  CHECK(with([](auto& o) { o.precision = "int4"; }).find("int4") != std::string::npos);
  CHECK(with([](auto& o) { o.image_size = 63; }).find("options.image_size is 63") == 0);
  CHECK(with([](auto& o) { o.image_size = -32; }).find("options.image_size -32") == 0);
  CHECK(with([](auto& o) { o.threads = -1; }).find("options.threads -1") == 0);
  CHECK(with([](auto& o) { o.max_boxes = 0; }).find("options.max_boxes 0") == 0);
  CHECK(with([](auto& o) { o.min_score = NAN; }).find("options.min_score nan") == 0);
  CHECK(with([](auto& o) { o.max_iou = 1.5f; }).find("options.max_iou 1.5") == 0);

  Detector detector(sample.path, options());
  const auto* pixels = sample.image.pixels.data();
  const auto seen = [&](const ImageView& v) { return library_error([&] { detector.detect(v); }); };
  CHECK(seen({nullptr, 4, 4}).find("image 0: pixels") == 0);
  CHECK(seen({pixels, 0, 4}).find("image 0: 0x4") == 0);
  CHECK(seen({pixels, 4, 1 << 20}).find("image 0: 4x1048576") == 0);
  CHECK(seen({pixels, 4, 4, Pixels::kRgba, 15}).find("image 0: stride 15") == 0);
  CHECK(seen({pixels, 4, 4, static_cast<Pixels>(9)}).find("image 0: pixel format 9") == 0);
  CHECK(library_error([&] { detector.class_name(99); }).find("class 99") == 0);
  CHECK(std::string(sextant_last_error()).find("pixel format 9") != std::string::npos);
  CHECK(sextant_open(nullptr, nullptr, nullptr) == SEXTANT_ERROR);
  int64_t found = 5;
  sextant_box box;
  CHECK(sextant_detect(nullptr, pixels, 4, 4, 0, SEXTANT_RGB, &box, 1, &found) == SEXTANT_ERROR);
  CHECK(found == 5);
  sextant_options o;
  sextant_default_options(&o, sizeof(o));
  o.size = 1 << 20;
  sextant_detector* handle = nullptr;
  CHECK(sextant_open(sample.path.c_str(), &o, &handle) == SEXTANT_ERROR);
  CHECK(handle == nullptr);
  CHECK(sextant_abi_version() == SEXTANT_ABI_VERSION);
}

// A program compiled when the options had fewer fields.
TEST_CASE("library: fields missing from an older program's options keep their defaults") {
  const Sample sample;
  sextant_options o;
  sextant_default_options(&o, offsetof(sextant_options, image_size));
  CHECK(o.size == offsetof(sextant_options, image_size));
  o.image_size = 63;  // outside what the program knows
  sextant_detector* handle = nullptr;
  REQUIRE(sextant_open(sample.path.c_str(), &o, &handle) == SEXTANT_OK);
  CHECK(sextant_image_size(handle) == kSize);
  sextant_close(handle);
}

}  // namespace sextant::test
