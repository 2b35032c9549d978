// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "core/error.h"
#include "core/process.h"
#include "support/support.h"

using namespace sextant;

namespace {

std::string read_all(Process& process) {
  std::string out(100, '\0');
  out.resize(process.read({reinterpret_cast<uint8_t*>(out.data()), out.size()}));
  return out;
}

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

TEST_CASE("Process: output, exit codes and the last line of stderr") {
  Process echo({"echo", "a b", "$HOME"}, Process::Pipe::kReadFrom);
  CHECK(read_all(echo) == "a b $HOME\n");
  CHECK(echo.finish() == 0);
  CHECK(echo.last_words().empty());

  Process failing({"sh", "-c", "echo one >&2; echo two >&2; exit 3"}, Process::Pipe::kReadFrom);
  CHECK(read_all(failing).empty());
  CHECK(failing.finish() == 3);
  CHECK(failing.last_words() == "two");

  CHECK(has_program("sh"));
  CHECK_FALSE(has_program("no-such-program"));
  CHECK(test::error_of([] {
          Process({"no-such-program"}, Process::Pipe::kReadFrom);
        }).find("no-such-program: cannot be started") == 0);
}

TEST_CASE("Process: input, and a program that stops reading") {
  const test::TemporaryFolder folder;
  const std::string file = (folder / "out").string();
  Process cat({"sh", "-c", "cat >" + file}, Process::Pipe::kWriteTo);
  CHECK(cat.write(bytes_of("hello")));
  CHECK(cat.finish() == 0);
  CHECK(std::filesystem::file_size(file) == 5);

  Process deaf({"true"}, Process::Pipe::kWriteTo);
  const std::string much(1 << 20, 'x');  // more than a pipe holds
  CHECK_FALSE(deaf.write(bytes_of(much)));
  CHECK(deaf.finish() == 0);
}
