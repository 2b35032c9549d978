// SPDX-License-Identifier: Apache-2.0
// A run and its folder: one process at a time, signals, more epochs, and the config that it leaves.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "apps/cli/run_options.h"
#include "apps/training/tiny_run.h"
#include "apps/training/trainer.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "support/same_tensors.h"

namespace {

using namespace sextant;
using namespace sextant::apps;
using sextant::test::Contains;
using test::check_same_tensors;
using test::error_of;

namespace fs = std::filesystem;

struct Setup {
  test::TemporaryFolder folder;
  TrainConfig config;

  Setup() {
    test::make_shapes(folder / "data", 8, 4);
    const Json json = {{"epochs", 2},
                       {"batch", 4},
                       {"image_size", 64},
                       {"close_mosaic", 1},
                       {"eval_interval", 1},
                       {"data", {{"path", (folder / "data").string()}}},
                       {"model", {{"width_multiple", 0.05}, {"depth_multiple", 0.1}}},
                       {"solver", {{"nominal_batch", 4}, {"warmup_epochs", 1}}}};
    config = parse_train_config(json, "test", "");
  }
  RunResult run(const std::string& name, bool resume, int64_t stop_after = 0) const {
    return train(config, folder / name, resume, stop_after);
  }
  int64_t rows(const std::string& name) const {
    return std::ranges::count(read_text(folder / name / "results.csv"), '\n') - 1;
  }
};

// The Interrupted that ends `f` when the signal waits from the start.
std::string interrupted(int signal, const std::function<void()>& f) {
  catch_interrupts("test");
  try {
    const InterruptScope scope;
    ::raise(signal);
    f();
  } catch (const Interrupted& e) {
    return e.what();
  }
  return "not interrupted";
}

}  // namespace

TEST_CASE("run: a folder that another run has is refused, and left as it is") {
  const Setup s;
  const FolderLock lock(s.folder / "run");
  CHECK_THAT(error_of([&] { s.run("run", false); }), Contains("run: is in use by process"));
  CHECK_THAT(error_of([&] { s.run("run", true); }), Contains("run: is in use by process"));
  CHECK_FALSE(fs::exists(s.folder / "run/config.json"));
}

TEST_CASE("run: what it reads is not overwritten") {
  Setup s;
  s.run("run", false);
  fs::create_directories(s.folder / "other");
  fs::copy(s.folder / "run/last.safetensors", s.folder / "other/last.safetensors");
  s.config.init = (s.folder / "other/last.safetensors").string();
  const std::string before = read_text(s.config.init);
  CHECK_THAT(error_of([&] { s.run("other", false); }), Contains("other/last.safetensors: is read"));
  CHECK(read_text(s.config.init) == before);
}

TEST_CASE("run: what is refused leaves no folder behind") {
  Setup s;
  s.config.data.path = (s.folder / "nothing").string();
  CHECK_THAT(error_of([&] { s.run("run", false); }), Contains("nothing"));
  CHECK_FALSE(fs::exists(s.folder / "run"));
}

TEST_CASE("run: a signal ends it within an iteration, and it resumes bit for bit") {
  const Setup s;
  s.run("whole", false);
  CHECK(interrupted(SIGTERM, [&] { s.run("parts", false); }) ==
        (s.folder / "parts").string() +
            ": interrupted (SIGTERM) after 0 epochs; resume it to continue");
  CHECK_FALSE(fs::exists(s.folder / "parts/resume.safetensors"));
  s.run("parts", true, 1);
  CHECK(interrupted(SIGINT, [&] { s.run("parts", true); }) ==
        (s.folder / "parts").string() +
            ": interrupted (SIGINT) after 1 epoch; resume it to continue");
  CHECK_FALSE(fs::exists(s.folder / "parts/lock"));
  CHECK(s.run("parts", true).trained == 1);
  for (const char* name : {"last.safetensors", "best.safetensors", "model.safetensors"})
    check_same_tensors(s.folder / "whole" / name, s.folder / "parts" / name);
}

TEST_CASE("run: an epoch is saved before it is evaluated") {
  Setup s;
  s.run("whole", false);
  // A val image that is cut off after the data was opened ends the evaluation.
  s.config.data.on_error = data::OnError::kStop;
  const fs::path image = fs::directory_iterator(s.folder / "data/images/val")->path();
  const std::string whole = read_text(image);
  write_atomically(image, std::string_view(whole).substr(0, whole.size() / 2));
  CHECK_THAT(error_of([&] { s.run("run", false); }), Contains("does not decode"));
  CHECK(fs::exists(s.folder / "run/resume.safetensors"));
  write_atomically(image, whole);
  const RunResult r = s.run("run", true);
  CHECK(r.trained == 1);
  CHECK(s.rows("run") == 2);
  for (const char* name : {"last.safetensors", "best.safetensors"})
    check_same_tensors(s.folder / "whole" / name, s.folder / "run" / name);
}

TEST_CASE("run: a finished run takes more epochs, an unfinished one does not") {
  Setup s;
  s.run("run", false, 1);
  s.config.epochs = 3;
  CHECK_THAT(error_of([&] { s.run("run", true); }), Contains("another 'epochs'"));
  s.config.epochs = 2;
  s.run("run", true);
  s.config.epochs = 4;
  const RunResult r = s.run("run", true);
  CHECK(r.trained == 2);
  CHECK(r.complete);
  CHECK(s.rows("run") == 4);
  CHECK(load_json(s.folder / "run/config.json").at("epochs") == 4);
  s.config.epochs = 3;
  CHECK_THAT(error_of([&] { s.run("run", true); }), Contains("another 'epochs'"));
}

TEST_CASE("run: its config.json starts it again, from any folder") {
  const Setup s;
  s.run("run", false);
  const fs::path file = s.folder / "run/config.json";
  const Json json = load_json(file);
  CHECK(fs::path(json.at("data").at("path").get<std::string>()).is_absolute());
  const TrainConfig again = parse_train_config(json, file.string(), file.parent_path().string());
  train(again, s.folder / "again", false);
  check_same_tensors(s.folder / "run/last.safetensors", s.folder / "again/last.safetensors");
  CHECK(load_json(s.folder / "again/config.json") == json);
  train(again, s.folder / "run", true);  // the same run to it

  RunOptions o;
  o.config = file.string();
  CHECK(o.folder() == "runs/config");
  o.resume = true;
  CHECK(o.folder() == s.folder / "run");
  o.config = "config.json";
  CHECK(o.folder() == ".");
  o.out = "there";
  CHECK(o.folder() == "there");
}

TEST_CASE("run: folders are numbered where none is named") {
  const test::TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  RunOptions o, again;
  o.config = again.config = "bccd.json";
  again.resume = true;
  CHECK(o.folder() == "runs/bccd");
  CHECK(again.folder() == "runs/bccd");
  write_atomically("runs/bccd/config.json", std::string_view("{}"));
  CHECK(o.folder() == "runs/bccd-2");
  CHECK(again.folder() == "runs/bccd");
  fs::create_directories("runs/bccd-2");  // empty: free
  CHECK(o.folder() == "runs/bccd-2");
  write_atomically("runs/bccd-2/config.json", std::string_view("{}"));
  CHECK(o.folder() == "runs/bccd-3");
  CHECK(again.folder() == "runs/bccd-2");
  fs::current_path(before);
}

TEST_CASE("run: leftovers of a killed one are removed") {
  const Setup s;
  s.run("run", false, 1);
  const pid_t dead = ::fork();
  REQUIRE(dead >= 0);
  if (dead == 0) ::_exit(0);
  REQUIRE(::waitpid(dead, nullptr, 0) == dead);
  const fs::path left = s.folder / "run" / ("last.safetensors.tmp" + std::to_string(dead));
  std::ofstream(left) << "half";
  s.run("run", true);
  CHECK_FALSE(fs::exists(left));
}
