// SPDX-License-Identifier: Apache-2.0
// What fuzzing has found, and the seeds that it starts from.
#include <filesystem>

#include "core/file.h"
#include "fuzz/readers.h"
#include "support/support.h"

using namespace sextant;

namespace fs = std::filesystem;

TEST_CASE("fuzz: every reader takes its seeds") {
  const test::TemporaryFolder folder;
  fuzz::write_seeds(folder.path().string());
  for (const fuzz::Reader& reader : fuzz::readers()) {
    INFO(reader.name);
    REQUIRE(fs::is_directory(folder / reader.name));
    int accepted = 0;
    for (const auto& entry : fs::directory_iterator(folder / reader.name)) {
      INFO(entry.path().filename().string());
      const auto bytes = read_bytes(entry.path());
      CHECK_NOTHROW(fuzz::run(reader, bytes));
      accepted += test::error_of([&] { reader.read(bytes); }) == "no error";
      // Cut off at any place it is refused or read, in good order.
      for (size_t n = 0; n < bytes.size(); n += bytes.size() / 50 + 1)
        CHECK_NOTHROW(fuzz::run(reader, std::span(bytes).first(n)));
    }
    CHECK(accepted > 0);
  }
}

TEST_CASE("fuzz: nothing that was found happens again") {
  const fs::path found = fs::path(SEXTANT_SOURCE_DIR) / "tests/fuzz/found";
  int files = 0;
  for (const fuzz::Reader& reader : fuzz::readers()) {
    if (!fs::is_directory(found / reader.name)) continue;
    for (const auto& entry : fs::directory_iterator(found / reader.name)) {
      INFO(reader.name << "/" << entry.path().filename().string());
      CHECK_NOTHROW(fuzz::run(reader, read_bytes(entry.path())));
      ++files;
    }
  }
  CHECK(files > 0);
}
