// SPDX-License-Identifier: Apache-2.0
// What a config is fitted to before a run.
#include <fstream>

#include "apps/training/fit.h"
#include "apps/training/tiny_run.h"
#include "apps/training/trainer.h"
#include "core/file.h"
#include "core/progress.h"
#include "support/same_tensors.h"

namespace {

using namespace sextant;
using namespace sextant::apps;
using sextant::test::Contains;
using test::check_same_tensors;
using test::error_of;

struct Fitting {
  test::TemporaryFolder folder;
  Json json;

  Fitting() {
    test::make_shapes(folder / "data", 24, 4);
    json = {{"epochs", 2},
            {"batch", 4},
            {"image_size", 64},
            {"data", {{"path", (folder / "data").string()}}},
            {"model", {{"width_multiple", 0.05}, {"depth_multiple", 0.1}}},
            {"solver", {{"nominal_batch", 16}, {"warmup_epochs", 0}}}};
  }
  TrainConfig config() const { return parse_train_config(json, "test", ""); }
};

}  // namespace

TEST_CASE("fit: more time is more epochs, and too little is refused with what one takes") {
  Fitting s;
  const int64_t few = epochs_within(s.config(), 20);
  CHECK(few >= 1);
  CHECK(epochs_within(s.config(), 2000) > 10 * few);
  const std::string error = error_of([&] { epochs_within(s.config(), 0.01); });
  CHECK_THAT(error, Contains("too little for one epoch, which takes"));
  CHECK_THAT(error, Contains("6 steps an epoch"));
  // Both stages of RepOptimizer have their share, or the first has what it was given.
  s.json["training"] = {{"mode", "repopt"}};
  const int64_t each = epochs_within(s.config(), 2000);
  s.json["training"]["search"] = {{"epochs", 1}};
  CHECK(epochs_within(s.config(), 2000, true) > 1.3 * static_cast<double>(each));
}

TEST_CASE("fit: a batch is at most what is accumulated, and at most the images") {
  Fitting s;
  CHECK(fitting_batch(s.config()) == 16);
  s.json["solver"]["nominal_batch"] = 64;
  CHECK(fitting_batch(s.config()) == 24);
  s.json["solver"]["nominal_batch"] = 6;
  CHECK(fitting_batch(s.config()) == 6);
}

TEST_CASE("fit: rates are tried without a run, from the lowest to where the loss bursts") {
  Fitting s;
  const auto out = s.folder / "rates";
  find_rate(s.config(), out);
  CHECK(file_exists(out / "find_lr.png"));
  CHECK_FALSE(file_exists(out / "config.json"));
  std::ifstream table(out / "find_lr.csv");
  std::string line;
  std::getline(table, line);
  CHECK(line == "lr,loss,averaged");
  double before = 0;
  int rows = 0;
  for (; std::getline(table, line); ++rows) {
    const double lr = std::stod(line);
    CHECK(lr > before);
    before = lr;
  }
  CHECK(rows > 20);
  CHECK(rows <= 100);
  s.json["solver"]["optimizer"] = "adamw";
  s.json["solver"]["lr0"] = 0.001;
  find_rate(s.config(), out);
  CHECK_THAT(read_text(out / "find_lr.csv"), Contains("\n1e-07,"));
}

TEST_CASE("fit: durations are read, and nothing else") {
  CHECK(parse_duration("90s") == 90);
  CHECK(parse_duration("30m") == 1800);
  CHECK(parse_duration("1h30m") == 5400);
  CHECK(parse_duration("1.5h") == 5400);
  CHECK(parse_duration("45") == 45);
  for (const char* text :
       {"", "0", "0s", "m", "30x", "30m1h", "30m 5s", "-5s", "1m2m", "nan", "inf"})
    CHECK_THAT(error_of([&] { parse_duration(text); }), Contains("is not a duration"));
}

TEST_CASE("fit: weights of classes change a run, those of 1 do not") {
  Fitting s;
  const auto weights = [&](const char* name, const Json& given) {
    s.json["loss"] = {{"class_weights", given}};
    train(s.config(), s.folder / name, false, 1);
    return s.folder / name / "last.safetensors";
  };
  const auto plain = weights("plain", Json::object());
  const std::string name = data::open_dataset((s.folder / "data").string(), "train").names.front();
  check_same_tensors(weights("ones", {{name, 1}}), plain);
  const SafeTensors a = load_safetensors(plain),
                    b = load_safetensors(weights("other", {{name, 4}}));
  int64_t changed = 0;
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const Tensor &x = a.tensors[i].second, &y = b.tensors[i].second;
    changed += std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.bytes())) != 0;
  }
  CHECK(changed > 0);
  CHECK_THAT(error_of([&] {
               weights("wrong", {{name + "s", 2}});
             }),
             Contains("'loss.class_weights' names '" + name + "s', which is no class; nearest is"));
}
