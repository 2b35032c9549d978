// SPDX-License-Identifier: Apache-2.0
// Data sets that are written, read again.
#include <set>

#include "core/file.h"
#include "data/dataset/write.h"
#include "data/images.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::data;
using test::Contains;
using test::error_of;

namespace {

namespace fs = std::filesystem;

// Two splits with files of the same name, one image without boxes, one crowd.
struct Source {
  test::TemporaryFolder folder;
  std::vector<std::string> names{"cat", "<dog> & co"};
  std::vector<Sample> samples;

  Source() {
    for (int k = 0; k < 6; ++k) {
      Sample s;
      s.width = 60 + k;
      s.height = 40;
      s.image = folder / fmt::format("{}/{}.png", k % 2 == 0 ? "a" : "b", k / 2);
      fs::create_directories(s.image.parent_path());
      save_png(s.image, test::pattern(s.width, s.height, static_cast<uint64_t>(k)));
      if (k != 3) s.labels.push_back({k % 2, 0.37f + 0.01f * k, 0.5f, 0.31f, 0.4f, false, 0, 0});
      if (k == 4) s.labels.push_back({0, 0.5f, 0.5f, 0.8f, 0.8f, true, 0, 0});
      samples.push_back(s);
    }
  }
  std::vector<SplitToWrite> splits() const {
    return {{"train", {&samples[0], &samples[1], &samples[2], &samples[3]}},
            {"val", {&samples[4], &samples[5]}}};
  }
};

}  // namespace

TEST_CASE("written data sets: each form is read back") {
  const Source source;
  for (const DatasetForm form : {DatasetForm::kYolo, DatasetForm::kCoco, DatasetForm::kVoc}) {
    INFO(name_of(form));
    const fs::path out = source.folder / std::string(name_of(form));
    const WrittenDataset w = write_dataset(out, form, source.names, source.splits());
    CHECK(w.images == 6);
    CHECK(w.crowds == (form == DatasetForm::kYolo ? 1 : 0));
    CHECK(w.boxes + w.crowds == 6);
    const Dataset train = open_dataset(out, "train"), val = open_dataset(out, "val");
    CHECK(train.report.empty());
    CHECK(train.names == source.names);
    REQUIRE(train.size() == 4);
    REQUIRE(val.size() == 2);
    CHECK(train.images_without_boxes() == 1);
    const auto same_label = [&](const Label& a, const Label& b, const Sample& s) {
      // VOC: half a pixel on each side.
      const double x = form == DatasetForm::kVoc ? 1.001 / s.width : 1e-6;
      const double y = form == DatasetForm::kVoc ? 1.001 / s.height : 1e-6;
      return a.category == b.category && a.crowd == b.crowd && std::abs(a.cx - b.cx) <= x &&
             std::abs(a.w - b.w) <= x && std::abs(a.cy - b.cy) <= y && std::abs(a.h - b.h) <= y;
    };
    for (const Dataset* split : {&train, &val})
      for (const Sample& s : split->samples) {
        const auto bytes = read_bytes(s.image);
        const auto before = std::ranges::find_if(
            source.samples, [&](const Sample& o) { return read_bytes(o.image) == bytes; });
        REQUIRE(before != source.samples.end());
        std::vector<Label> expected = before->labels;
        if (form == DatasetForm::kYolo)
          std::erase_if(expected, [](const Label& l) { return l.crowd; });
        REQUIRE(s.labels.size() == expected.size());
        for (size_t i = 0; i < expected.size(); ++i) CHECK(same_label(s.labels[i], expected[i], s));
      }
  }
}

TEST_CASE("written data sets: what is there stays, and nothing is left half-written") {
  Source source;
  fs::create_directories(source.folder / "full");
  write_atomically(source.folder / "full/mine", "x");
  CHECK_THAT(error_of([&] {
               write_dataset(source.folder / "full", DatasetForm::kYolo, source.names,
                             source.splits());
             }),
             Contains("full: exists and is not an empty folder"));
  source.samples[5].image = source.folder / "absent.png";
  CHECK_THAT(error_of([&] {
               write_dataset(source.folder / "new", DatasetForm::kCoco, source.names,
                             source.splits());
             }),
             Contains("absent.png: cannot be read"));
  for (const auto& entry : fs::directory_iterator(source.folder.path()))
    CHECK_FALSE(entry.path().filename().string().starts_with("new"));
}

TEST_CASE("dealt splits: the same for the same images, of the sizes asked for") {
  std::vector<Sample> samples(100);
  std::vector<const Sample*> all;
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].image = fmt::format("p{}.jpg", i);
    all.push_back(&samples[i]);
  }
  const std::vector<Share> shares{{"train", 0.7}, {"val", 0.2}, {"test", 0.1}};
  const auto splits = deal(all, shares, 1);
  REQUIRE(splits.size() == 3);
  CHECK(splits[0].samples.size() == 70);
  CHECK(splits[1].samples.size() == 20);
  std::set<const Sample*> seen;
  for (const auto& s : splits) seen.insert(s.samples.begin(), s.samples.end());
  CHECK(seen.size() == 100);
  std::ranges::reverse(all);
  CHECK(deal(all, shares, 1)[1].samples == splits[1].samples);
  CHECK(deal(all, shares, 2)[1].samples != splits[1].samples);
  CHECK(deal(all, {{"train", 1}, {"val", 0}}, 1).size() == 1);
  CHECK_THAT(error_of([&] { deal(all, {{"train", 0}}, 1); }), Contains("add up to 0"));
  CHECK_THAT(error_of([&] { deal(all, {{"train", -1}}, 1); }), Contains("must not be negative"));
}
