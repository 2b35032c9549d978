// SPDX-License-Identifier: Apache-2.0
// Outputs never overwrite inputs; links and devices are preserved.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "core/file.h"
#include "core/outputs.h"
#include "support/support.h"

using namespace sextant;
using sextant::test::Contains;
using sextant::test::error_of;
using sextant::test::TemporaryFolder;

namespace fs = std::filesystem;

namespace {

struct Folder {
  TemporaryFolder folder;
  std::string file(const std::string& name) const {
    write_atomically(folder / name, std::string_view(name));
    return name_of(name);
  }
  std::string name_of(const std::string& name) const { return (folder / name).string(); }
  static std::string error(const Files& files) {
    return error_of([&] { check_outputs(files); });
  }
};

}  // namespace

TEST_CASE("outputs: an input is not overwritten, by whatever path") {
  const Folder f;
  const std::string model = f.file("m.safetensors"), other = f.name_of("new.safetensors");
  fs::create_symlink("m.safetensors", f.folder / "link");
  fs::create_hard_link(f.folder / "m.safetensors", f.folder / "hard");
  CHECK(f.error({{model}, {}, {other}}) == "no error");
  for (const std::string& out : {model, f.name_of("./m.safetensors"), f.name_of("link"),
                                 f.name_of("hard"), f.name_of("x/../m.safetensors")}) {
    if (out.find("x/..") != std::string::npos) fs::create_directories(f.folder / "x");
    CHECK_THAT(f.error({{model}, {}, {out}}),
               Contains("m.safetensors") || Contains("link") || Contains("hard"));
    CHECK(f.error({{model}, {}, {out}}) != "no error");
  }
  // A link whose target is not there yet.
  fs::create_symlink("later", f.folder / "to_later");
  CHECK_THAT(f.error({{}, {}, {f.name_of("later"), f.name_of("to_later")}}),
             Contains("written twice"));
  CHECK(f.error({{model}, {}, {f.name_of("a"), f.name_of("b")}}) == "no error");
  CHECK(f.error({{"/dev/null"}, {}, {"/dev/null", "/dev/null"}}) == "no error");
}

TEST_CASE("outputs: the parts of a data set are not overwritten") {
  const Folder f;
  const std::string set = f.name_of("set"), list = f.file("set/data.yaml");
  f.file("set/labels/val/a.txt");
  f.file("set/eval.json");
  CHECK_THAT(f.error({{}, {list}, {list}}), Contains("data.yaml"));
  CHECK_THAT(f.error({{}, {set}, {list}}), Contains("part of the data set"));
  CHECK_THAT(f.error({{}, {set}, {f.name_of("set/labels/val/a.txt")}}), Contains("a.txt"));
  CHECK(f.error({{}, {set}, {f.name_of("set/eval.json")}}) == "no error");
  CHECK(f.error({{}, {set}, {f.name_of("elsewhere/labels.json")}}) == "no error");
}

TEST_CASE("outputs: a folder to fill is not among the images or labels of a data set") {
  const test::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "set/images/val");
  const std::string set = (folder / "set").string();
  const auto fills = [&](const std::string& name) {
    return test::error_of([&] {
      check_outputs({.inputs = {}, .datasets = {set}, .outputs = {}, .folders = {name}});
    });
  };
  for (const char* name :
       {"/images/val", "/images", "/images/val/new", "/labels", "/x/../labels/y"})
    CHECK_THAT(fills(set + name), test::Contains("is inside the data set"));
  for (const char* name : {"/runs/a", "", "2/images"}) CHECK(fills(set + name) == "no error");
}

TEST_CASE("outputs: a folder is filled when it is new, empty, or ours") {
  const test::TemporaryFolder folder;
  const auto fill = [&](const std::string& name) {
    return test::error_of([&] { check_fillable((folder / name).string(), "ours", "run"); });
  };
  CHECK(fill("new") == "no error");
  std::filesystem::create_directories(folder / "there");
  CHECK(fill("there") == "no error");
  write_atomically(folder / "there/mine", "x");
  CHECK_THAT(fill("there"), test::Contains("there: exists and holds other files"));
  CHECK_THAT(fill("there/mine"), test::Contains("mine: exists and is not a folder"));
  write_atomically(folder / "there/ours", "x");
  CHECK(fill("there") == "no error");
  write_atomically(folder / "there/run", "x");
  CHECK_THAT(fill("there"), test::Contains("holds other files"));
  CHECK(lies_in(folder / "there/../there/a", folder / "there"));
  CHECK_FALSE(lies_in(folder / "a", folder / "there"));
}

TEST_CASE("files: a link stays and its target is written") {
  const Folder f;
  f.file("real/m");
  fs::create_directory_symlink("real", f.folder / "way");
  fs::create_symlink("way/m", f.folder / "link");
  write_atomically(f.folder / "link", std::string_view("new"));
  CHECK(fs::is_symlink(f.folder / "link"));
  CHECK(read_text(f.folder / "real/m") == "new");
  fs::create_symlink("real/later", f.folder / "dangling");
  write_atomically(f.folder / "dangling", std::string_view("there"));
  CHECK(read_text(f.folder / "real/later") == "there");
  fs::create_symlink("loop", f.folder / "loop");
  CHECK_THAT(error_of([&] { write_atomically(f.folder / "loop", std::string_view("x")); }),
             Contains("loop"));
  CHECK_THAT(error_of([&] { write_atomically(f.folder / "real", std::string_view("x")); }),
             Contains("is a folder"));
  for (const auto& entry : fs::recursive_directory_iterator(f.folder.path()))
    CHECK(entry.path().string().find(".tmp") == std::string::npos);
}

TEST_CASE("files: a device or pipe is written to, not replaced") {
  write_atomically("/dev/null", std::string_view("gone"));
  CHECK(fs::is_character_file("/dev/null"));
  const Folder f;
  fs::create_symlink("/dev/null", f.folder / "null");
  write_atomically(f.folder / "null", std::string_view("gone"));
  CHECK(fs::is_character_file("/dev/null"));
  CHECK_THAT(error_of([] { write_atomically("/dev/full", std::string_view("x")); }),
             Contains("/dev/full: cannot be written"));
}

TEST_CASE(
    "files: a file that a shell has open is written to, one in shared memory like any other") {
  const Folder f;
  f.file("open");
  const int fd = ::open((f.folder / "open").c_str(), O_WRONLY | O_TRUNC);
  const std::string name = "/dev/fd/" + std::to_string(fd);
  write_atomically(name, std::string_view("one"));
  CHECK(read_text(f.folder / "open") == "one");
  ::close(fd);
  if (!fs::is_directory("/dev/shm")) return;
  const fs::path shared = "/dev/shm/sextant-test-" + std::to_string(::getpid());
  for (const std::string text : {"first", "second"}) {
    write_atomically(shared, text);
    CHECK(read_text(shared) == text);
  }
  fs::remove(shared);
}

TEST_CASE("files: text comes without a byte order mark, pipes are read to their end") {
  const Folder f;
  write_atomically(f.folder / "bom", std::string_view("\xEF\xBB\xBFtext"));
  CHECK(read_text(f.folder / "bom") == "text");
  CHECK(read_bytes(f.folder / "bom").size() == 7);
  CHECK(read_text("/dev/null").empty());
  CHECK_THAT(error_of([&] { read_text(f.folder / "absent"); }), Contains("cannot be opened"));
  CHECK_THAT(error_of([&] { read_text(f.folder.path()); }), Contains("is a folder"));
}
