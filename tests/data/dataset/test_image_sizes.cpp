// SPDX-License-Identifier: Apache-2.0
// Sizes of many images: read in parallel, cached, and never stale.
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "core/file.h"
#include "core/hash.h"
#include "data/dataset/dataset.h"
#include "data/dataset/image_sizes.h"
#include "data/images.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::Contains;
using sextant::test::TemporaryFolder;

namespace fs = std::filesystem;

namespace {

// 300 images that were changed a while ago, and a cache folder of their own.
struct Images {
  TemporaryFolder folder;
  std::vector<std::string> files;
  Images() {
    ::setenv("SEXTANT_CACHE", (folder / "cache").c_str(), 1);
    save_png(folder / "images/0.png", make_image(20, 10));
    for (int i = 0; i < 300; ++i) {
      const fs::path file = folder / fmt::format("images/{}.png", i);
      if (i > 0) fs::copy_file(folder / "images/0.png", file);
      files.push_back(file.string());
    }
  }
  ~Images() { ::unsetenv("SEXTANT_CACHE"); }
  std::vector<std::optional<ImageSize>> read(LabelReport* report = nullptr) const {
    LabelReport mine;
    return read_image_sizes(files, folder.path().string(), report ? *report : mine);
  }
  fs::path cache() const {
    for (const auto& entry : fs::directory_iterator(folder / "cache")) return entry.path();
    return {};
  }
};

// Replaces a width in a cache file, with the checksum (FNV-1a) to go with it: a title line, the
// checksum, then 40 bytes for each image (the last eight: width and height), the length of its path,
// and the path.
void rewrite_widths(const fs::path& file, int32_t from, int32_t to) {
  std::string text = read_text(file);
  const size_t body = text.find('\n') + 1 + 8;
  for (size_t at = body; at < text.size();) {
    int32_t width = 0;
    uint32_t length = 0;
    std::memcpy(&width, &text[at + 32], 4);
    std::memcpy(&length, &text[at + 40], 4);
    if (width == from) std::memcpy(&text[at + 32], &to, 4);
    at += 44 + length;
  }
  const uint64_t h = Hash64().add(std::string_view(text).substr(body)).value();
  std::memcpy(&text[body - 8], &h, 8);
  write_atomically(file, text);
}

// A change time cannot be set; what was written must become older than the cache trusts.
void settle() { std::this_thread::sleep_for(std::chrono::milliseconds(2300)); }

}  // namespace

TEST_CASE("image sizes: cached between runs, and read again if a file has changed") {
  const Images images;
  images.read();
  // Too young to be kept.
  const auto young = fs::file_size(images.cache());
  settle();
  CHECK(images.read().at(7)->width == 20);
  CHECK(fs::file_size(images.cache()) > young + 300 * 40);
  // What the cache says is what is used: here another width for every image.
  rewrite_widths(images.cache(), 20, 25);
  CHECK(images.read().at(7)->width == 25);
  // But not for a file that has changed since, whatever its modification time says.
  const auto before = fs::last_write_time(images.files[7]);
  save_png(images.files[7], make_image(30, 10));
  fs::last_write_time(images.files[7], before);
  CHECK(images.read().at(7)->width == 30);
  CHECK(images.read().at(8)->width == 25);
}

TEST_CASE("image sizes: a damaged cache is ignored") {
  const Images images;
  settle();
  images.read();
  const std::string whole = read_text(images.cache());
  std::string changed = whole;
  changed[changed.size() - 1] ^= 1;
  for (const std::string& text :
       {std::string(), std::string("x"), whole.substr(0, 22), whole.substr(0, 40),
        whole.substr(0, whole.size() - 5), whole + "more", changed}) {
    write_atomically(images.cache(), text);
    CHECK(images.read().at(299)->width == 20);
    CHECK(read_text(images.cache()) == whole);
  }
}

TEST_CASE("image sizes: broken headers are reported in order, and not cached") {
  Images images;
  for (const int broken : {250, 3})
    test::write_file(images.files[static_cast<size_t>(broken)], "x");
  settle();
  for (int k = 0; k < 2; ++k) {
    LabelReport report;
    const auto sizes = images.read(&report);
    REQUIRE(report.issues().size() == 2);
    CHECK_THAT(report.issues()[0].str(), Contains("/3.png: neither a JPEG"));
    CHECK_FALSE(sizes[250]);
    CHECK(sizes[251]);
  }
}

TEST_CASE("image sizes: works without a cache if none can be created") {
  const Images images;
  ::setenv("SEXTANT_CACHE", "/proc/nowhere", 1);
  CHECK(images.read().at(0)->width == 20);
  ::unsetenv("SEXTANT_CACHE");
  const Images again;
  test::write_file(again.folder / "cache", "a file");
  CHECK(again.read().at(0)->width == 20);
}

TEST_CASE("broken images: reported once, also across copies of the dataset, or an error") {
  const TemporaryFolder folder;
  test::write_file(folder / "classes.json", R"({"names": ["cat"]})");
  for (const char* name : {"a.png", "b.png"})
    save_png(folder / (std::string("images/train/") + name), test::pattern(40, 30, 1));
  const std::string whole = read_text(folder / "images/train/b.png");
  test::write_file(folder / "images/train/b.png",
                   std::string_view(whole).substr(0, whole.size() / 2));
  Dataset d = open_dataset(folder.path(), "train");
  const Dataset copy = d;
  CHECK(load_sample(d, 0)->width == 40);
  CHECK_FALSE(load_sample(d, 1));
  CHECK_FALSE(load_sample(copy, 1));
  REQUIRE(copy.broken->report().issues().size() == 1);
  CHECK_THAT(copy.broken->report().summary(), Contains("b.png: the image does not decode"));
  const Dataset strict = open_dataset(folder.path(), "train", {OnError::kStop});
  CHECK_THAT(test::error_of([&] { load_sample(strict, 1); }),
             Contains("b.png: the image does not"));
  // Another size than when the data set was opened.
  save_png(folder / "images/train/a.png", make_image(41, 30));
  CHECK_FALSE(load_sample(d, 0));
}
