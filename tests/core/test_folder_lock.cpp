// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "core/file.h"
#include "core/folder_lock.h"
#include "support/support.h"

using namespace sextant;

namespace fs = std::filesystem;

TEST_CASE("folder lock: one at a time, and the folder is left as it was") {
  const test::TemporaryFolder folder;
  const fs::path run = folder / "a/run";
  fs::create_directories(run);
  {
    const FolderLock lock(run);
    CHECK(fs::exists(run / "lock"));
    CHECK(test::error_of([&] { const FolderLock second(run); }) ==
          run.string() + ": is in use by process " + std::to_string(::getpid()) +
              "; wait for its end, or choose another folder");
    CHECK(test::error_of([&] { const FolderLock other(folder / "b"); }) == "no error");
    CHECK_FALSE(fs::exists(folder / "b"));  // it made it, and left it empty
  }
  CHECK(fs::is_empty(run));
  CHECK(test::error_of([&] { const FolderLock again(run); }) == "no error");
}

TEST_CASE("folder lock: a killed process holds none") {
  const test::TemporaryFolder folder;
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    const FolderLock lock(folder.path());
    ::_exit(0);  // as if killed: no destructor runs
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(read_text(folder / "lock") == std::to_string(pid));
  const FolderLock lock(folder.path());
  CHECK(read_text(folder / "lock") == std::to_string(::getpid()));
}

TEST_CASE("folder lock: what a killed process was writing is removed") {
  const test::TemporaryFolder folder;
  const pid_t dead = ::fork();
  REQUIRE(dead >= 0);
  if (dead == 0) ::_exit(0);
  REQUIRE(::waitpid(dead, nullptr, 0) == dead);
  const std::string ours = "b.tmp" + std::to_string(::getpid());
  const std::string kept[] = {"c.tmp", "d.tmpx", ".tmp1", "e.tmp12x", "results.csv", ours};
  write_atomically(folder / ("a.safetensors.tmp" + std::to_string(dead)), "x");
  for (const std::string& name : kept) write_atomically(folder / name, "x");
  const FolderLock lock(folder.path());
  CHECK_FALSE(fs::exists(folder / ("a.safetensors.tmp" + std::to_string(dead))));
  for (const std::string& name : kept) {
    INFO(name);
    CHECK(fs::exists(folder / name));
  }
}
