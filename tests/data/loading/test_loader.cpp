// SPDX-License-Identifier: Apache-2.0
// The loader: the same batches for any number of threads, different ones in each epoch.
#include <cstring>
#include <set>

#include "data/images.h"
#include "data/loading/loader.h"
#include "data/tiny_files.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::Contains;
using sextant::test::error_of;
using sextant::test::TemporaryFolder;

namespace {

// Eleven pictures of several sizes, one box each and no two alike; one has none, one a crowd.
struct Pictures {
  TemporaryFolder folder;
  Dataset dataset;
  Pictures() {
    dataset.path = folder.path().string();
    dataset.split = "train";
    dataset.names = {"a", "b", "c"};
    for (int k = 0; k < 11; ++k) {
      Sample s;
      s.width = 30 + 7 * (k % 4);
      s.height = 60 - 6 * (k % 5);
      s.image = folder / (std::to_string(k) + ".png");
      s.image_id = k;
      save_png(s.image, test::pattern(s.width, s.height, static_cast<uint64_t>(k)));
      if (k != 3)
        s.labels.push_back(
            {k % 3, 0.4f + 0.01f * static_cast<float>(k), 0.5f, 0.5f, 0.4f, false, 0});
      if (k == 5) s.labels.push_back({0, 0.5f, 0.5f, 1.0f, 1.0f, true, 0});
      dataset.samples.push_back(s);
    }
  }
  void ruin(int k) {
    const Sample& s = dataset.samples[static_cast<size_t>(k)];
    const std::vector<uint8_t> bytes = read_bytes(s.image);
    test::write_file(s.image, test::as_text(std::span(bytes).first(bytes.size() / 2)));
  }
};

LoaderConfig training(int threads, uint64_t seed = 1) {
  LoaderConfig c;
  c.batch = 4;
  c.size = 48;
  c.shuffle = true;
  c.augment = AugmentConfig{};
  c.augment->mixup = 0.3;
  c.augment->flipud = 0.3;
  c.seed = seed;
  c.threads = threads;
  return c;
}

// Everything of the given epochs, as one string of bytes.
std::string everything(Loader& loader, const std::vector<int64_t>& epochs, bool mosaic_on = true) {
  std::string bytes;
  Batch batch;
  for (const int64_t epoch : epochs) {
    loader.begin_epoch(epoch, mosaic_on);
    while (loader.next(batch)) {
      bytes.append(static_cast<const char*>(batch.images.raw()),
                   static_cast<size_t>(batch.images.bytes()));
      if (batch.targets.numel() > 0)
        bytes.append(static_cast<const char*>(batch.targets.raw()),
                     static_cast<size_t>(batch.targets.bytes()));
      for (const int64_t i : batch.indices) bytes += std::to_string(i) + ",";
    }
  }
  return bytes;
}

std::string everything(const Dataset& d, const LoaderConfig& c, const std::vector<int64_t>& epochs,
                       bool mosaic_on = true) {
  Loader loader(d, c);
  return everything(loader, epochs, mosaic_on);
}

}  // namespace

TEST_CASE("the shares of several processes are the batches of one") {
  const Pictures pictures;
  for (const int processes : {2, 3, 4}) {
    INFO(processes << " processes");
    Loader whole(pictures.dataset, training(2));
    std::vector<std::unique_ptr<Loader>> loaders;
    for (int k = 0; k < processes; ++k) {
      LoaderConfig c = training(1 + k % 2);
      c.process = k;
      c.processes = processes;
      loaders.push_back(std::make_unique<Loader>(pictures.dataset, c));
      CHECK(loaders.back()->batches_per_epoch() == whole.batches_per_epoch());
      loaders.back()->begin_epoch(1);
    }
    whole.begin_epoch(1);
    Batch all;
    int without = 0;
    while (whole.next(all)) {
      CHECK((all.whole == all.size() && all.counts && all.share() == 1));
      const int64_t bytes = int64_t{3} * 48 * 48;
      int64_t at = 0, targets = 0;
      for (auto& loader : loaders) {
        Batch part;
        REQUIRE(loader->next(part));
        CHECK(part.whole == all.size());
        if (!part.counts) {
          CHECK((part.size() == 1 && part.share() == 0));
          ++without;
          continue;
        }
        REQUIRE(at + part.size() <= all.size());
        CHECK(std::memcmp(part.images.raw(), all.images.data<uint8_t>() + at * bytes,
                          static_cast<size_t>(part.size() * bytes)) == 0);
        for (int64_t i = 0; i < part.targets.dim(0); ++i, ++targets) {
          const float* mine = part.targets.f32() + 6 * i;
          const float* its = all.targets.f32() + 6 * targets;
          CHECK(mine[0] + static_cast<float>(at) == its[0]);
          CHECK(std::equal(mine + 1, mine + 6, its + 1));
        }
        at += part.size();
      }
      CHECK(at == all.size());
      CHECK(targets == all.targets.dim(0));
    }
    CHECK(without == (processes == 4 ? 1 : 0));  // the last batch has three images
    Batch none;
    for (auto& loader : loaders) CHECK(!loader->next(none));
  }
}

TEST_CASE("loader: the same bytes with 1, 2 and 4 threads, and any cache") {
  const Pictures p;
  for (const bool mosaic_on : {true, false}) {
    const std::string one = everything(p.dataset, training(1), {0, 1}, mosaic_on);
    REQUIRE(one.size() > 22 * 48 * 48 * 3);
    CHECK(everything(p.dataset, training(2), {0, 1}, mosaic_on) == one);
    CHECK(everything(p.dataset, training(4), {0, 1}, mosaic_on) == one);
    LoaderConfig c = training(3);
    c.cache_bytes = 0;
    c.prefetch = 1;
    CHECK(everything(p.dataset, c, {0, 1}, mosaic_on) == one);
    c.cache_bytes = 15000;  // two or three pictures
    CHECK(everything(p.dataset, c, {0, 1}, mosaic_on) == one);
  }
}

TEST_CASE("loader: decoded images are kept if they all fit, else their files") {
  const Pictures p;
  LoaderConfig c = training(2);
  CHECK_THAT(Loader(p.dataset, c).cached(), Contains("decoded images"));
  c.size = 480;
  c.cache_bytes = 1000000;  // enough for the files alone
  Loader loader(p.dataset, c);
  CHECK_THAT(loader.cached(), Contains("image files") && Contains("decoded they would take"));
  const std::string before = everything(loader, {0});
  // What was read once is not read again.
  for (const Sample& sample : p.dataset.samples) std::filesystem::remove(sample.image);
  CHECK(everything(loader, {0}) == before);
}

TEST_CASE("loader: epochs and seeds differ, an epoch does not depend on those before") {
  const Pictures p;
  const std::string zero = everything(p.dataset, training(2), {0});
  const std::string one = everything(p.dataset, training(2), {1});
  CHECK(zero != one);
  CHECK(everything(p.dataset, training(2, 2), {0}) != zero);
  CHECK(everything(p.dataset, training(2), {0}, false) != zero);
  Loader loader(p.dataset, training(2));
  CHECK(everything(loader, {1}) == one);
  // An epoch left half way does not disturb the next one.
  Batch batch;
  loader.begin_epoch(5);
  CHECK(loader.next(batch));
  CHECK(everything(loader, {0}) == zero);
}

TEST_CASE("loader: continuing in the middle of an epoch") {
  const Pictures p;
  Loader loader(p.dataset, training(2));
  std::vector<std::string> whole;
  Batch batch;
  auto bytes = [&] {
    return std::string(static_cast<const char*>(batch.images.raw()),
                       static_cast<size_t>(batch.images.bytes()));
  };
  loader.begin_epoch(3);
  while (loader.next(batch)) whole.push_back(bytes());
  REQUIRE(whole.size() == 3);
  loader.begin_epoch_at(3, true, 1);
  for (size_t k = 1; k < 3; ++k) {
    REQUIRE(loader.next(batch));
    CHECK(bytes() == whole[k]);
  }
  CHECK_FALSE(loader.next(batch));
  CHECK_THAT(error_of([&] { loader.begin_epoch_at(3, true, 4); }),
             Contains("batch 4 is out of range"));
}

TEST_CASE("loader: every sample once per epoch, and batches of the right shape") {
  const Pictures p;
  LoaderConfig c = training(2);
  Loader loader(p.dataset, c);
  CHECK(loader.batches_per_epoch() == 3);
  Batch batch;
  CHECK_FALSE(loader.next(batch));  // before the first epoch
  loader.begin_epoch(0);
  std::set<int64_t> seen;
  std::vector<int64_t> sizes;
  while (loader.next(batch)) {
    sizes.push_back(batch.size());
    CHECK(batch.images.shape() == Shape{batch.size(), 48, 48, 3});
    CHECK(batch.images.dtype() == DType::kU8);
    CHECK(batch.geometry.empty());
    REQUIRE(batch.targets.shape().rank() == 2);
    REQUIRE(batch.targets.dim(1) == 6);
    float before = 0;
    for (int64_t r = 0; r < batch.targets.dim(0); ++r) {
      const float* t = batch.targets.f32() + 6 * r;
      CHECK(t[0] >= before);
      CHECK(t[0] < static_cast<float>(batch.size()));
      before = t[0];
      CHECK((t[1] == 0 || t[1] == 1 || t[1] == 2));
      CHECK(t[2] - t[4] / 2 >= -1e-6f);
      CHECK(t[2] + t[4] / 2 <= 1 + 1e-6f);
      CHECK(t[3] - t[5] / 2 >= -1e-6f);
      CHECK(t[3] + t[5] / 2 <= 1 + 1e-6f);
      CHECK(t[4] > 2.0f / 48);
    }
    seen.insert(batch.indices.begin(), batch.indices.end());
  }
  CHECK(sizes == std::vector<int64_t>{4, 4, 3});
  CHECK(seen.size() == 11);
  c.drop_last = true;
  Loader dropping(p.dataset, c);
  CHECK(dropping.batches_per_epoch() == 2);
}

TEST_CASE("loader: without augmentation, letterboxed in order, equal to load_batch") {
  const Pictures p;
  LoaderConfig c;
  c.batch = 4;
  c.size = 48;
  c.threads = 2;
  Loader loader(p.dataset, c);
  loader.begin_epoch(0);
  Batch batch;
  int64_t at = 0;
  while (loader.next(batch)) {
    const Batch plain = load_batch(p.dataset, at, at + batch.size(), 48);
    CHECK(plain.indices == batch.indices);
    CHECK(std::memcmp(plain.images.raw(), batch.images.raw(),
                      static_cast<size_t>(batch.images.bytes())) == 0);
    REQUIRE(plain.targets.shape() == batch.targets.shape());
    CHECK(test::max_difference(plain.targets, batch.targets) == 0);
    for (int64_t k = 0; k < batch.size(); ++k) {
      CHECK(batch.indices[static_cast<size_t>(k)] == at + k);
      const Sample& s = p.dataset.samples[static_cast<size_t>(at + k)];
      const Letterboxed expected = letterbox(load_image(s.image), {48, 48});
      CHECK(std::memcmp(expected.canvas.pixels.data(),
                        batch.images.data<uint8_t>() + k * 48 * 48 * 3, 48 * 48 * 3) == 0);
      CHECK(batch.geometry[static_cast<size_t>(k)].top == expected.geometry.top);
    }
    at += batch.size();
  }
  CHECK(at == 11);
  // Targets: the box of sample 0 (30 x 60 on 48 x 48: scaled by 0.8, 12 pixels left).
  const Batch first = load_batch(p.dataset, 0, 6, 48);
  REQUIRE(first.targets.dim(0) == 5);  // sample 3 has none, sample 5's crowd is left out
  const float* t = first.targets.f32();
  CHECK(t[2] == Approx((0.4 * 24 + 12) / 48));
  CHECK(t[3] == Approx(0.5));
  CHECK(t[4] == Approx(0.25));
  CHECK(t[5] == Approx(0.4));
  CHECK(load_batch(p.dataset, 3, 4, 48).targets.dim(0) == 0);
  CHECK_THAT(error_of([&] { load_batch(p.dataset, 5, 12, 48); }),
             Contains("samples [5, 12) are out of range, there are 11"));
}

TEST_CASE("loader: broken images are replaced in training, left out in evaluation, or an error") {
  Pictures p;
  p.ruin(4);
  p.ruin(5);
  const std::string one = everything(p.dataset, training(1), {0, 1});
  CHECK(everything(p.dataset, training(4), {0, 1}) == one);
  LoaderConfig c = training(2);
  Loader loader(p.dataset, c);
  everything(loader, {0, 1});
  const LabelReport report = p.dataset.broken->report();
  REQUIRE(report.issues().size() == 2);  // each once
  CHECK_THAT(report.issues()[0].str(), Contains("4.png: the image does not decode"));
  Dataset strict = p.dataset;
  strict.stop_on_error = true;
  strict.broken = std::make_shared<BrokenImages>();
  CHECK_THAT(error_of([&] { everything(strict, c, {0}); }), Contains(".png: the image does not"));

  LoaderConfig plain;
  plain.batch = 4;
  plain.size = 48;
  plain.threads = 2;
  Loader evaluation(p.dataset, plain);
  evaluation.begin_epoch(0);
  Batch batch;
  std::vector<int64_t> seen;
  while (evaluation.next(batch)) {
    CHECK(batch.images.dim(0) == batch.size());
    seen.insert(seen.end(), batch.indices.begin(), batch.indices.end());
    for (int64_t k = 0; k < batch.size(); ++k) {
      const Batch alone = load_batch(p.dataset, batch.indices[static_cast<size_t>(k)],
                                     batch.indices[static_cast<size_t>(k)] + 1, 48);
      CHECK(std::memcmp(alone.images.raw(), batch.images.data<uint8_t>() + k * 48 * 48 * 3,
                        48 * 48 * 3) == 0);
    }
  }
  CHECK(seen == std::vector<int64_t>{0, 1, 2, 3, 6, 7, 8, 9, 10});
  CHECK(load_batch(p.dataset, 3, 7, 48).indices == std::vector<int64_t>{3, 6});

  for (int k = 0; k < 11; ++k)
    if (k != 4 && k != 5) p.ruin(k);
  CHECK_THAT(error_of([&] { everything(p.dataset, training(2), {0}); }),
             Contains("none of the images of split 'train' can be decoded"));
  Loader none(p.dataset, plain);
  none.begin_epoch(0);
  CHECK_FALSE(none.next(batch));
}

TEST_CASE("loader: an image whose size has changed since the dataset was opened") {
  Pictures p;
  save_png(p.dataset.samples[0].image, make_image(5, 5));
  p.dataset.stop_on_error = true;
  CHECK_THAT(error_of([&] { everything(p.dataset, training(1), {0}); }),
             Contains("is 5x5, it was 30x60"));
}

TEST_CASE("loader: wrong configs are refused") {
  const Pictures p;
  auto message = [&](const std::function<void(LoaderConfig&)>& change) {
    LoaderConfig c = training(1);
    change(c);
    return error_of([&] { Loader(p.dataset, c); });
  };
  CHECK_THAT(message([](LoaderConfig& c) { c.batch = 0; }), Contains("batch is 0"));
  CHECK_THAT(message([](LoaderConfig& c) { c.threads = 0; }), Contains("threads is 0"));
  CHECK_THAT(message([](LoaderConfig& c) { c.size = -1; }), Contains("size is -1"));
  CHECK_THAT(error_of([] { Loader(Dataset{}, LoaderConfig{}); }), Contains("no sample"));
}

TEST_CASE("loader: real photographs") {
  const auto set = test::shared_path("data/bccd");
  if (!set) return;
  Dataset d = open_dataset(*set, "val", {OnError::kStop});
  d.samples.resize(std::min<size_t>(d.samples.size(), 10));
  LoaderConfig c = training(2);
  c.size = 320;
  c.batch = 5;
  const std::string two = everything(d, c, {0});
  c.threads = 1;
  CHECK(everything(d, c, {0}) == two);
  const Batch batch = load_batch(d, 0, 2, 320);
  const Letterboxed expected = letterbox(load_image(d.samples[0].image), {320, 320});
  CHECK(batch.geometry[0].resized_height == expected.geometry.resized_height);
  CHECK(batch.geometry[0].top == expected.geometry.top);
  CHECK(std::memcmp(batch.images.raw(), expected.canvas.pixels.data(),
                    expected.canvas.pixels.size()) == 0);
}
