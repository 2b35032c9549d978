// SPDX-License-Identifier: Apache-2.0
// Mistakes that every command refuses before it starts, and errors of output.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "apps/cli/command_line.h"
#include "apps/cli/run_program.h"
#include "core/file.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::apps;

namespace {

struct Result {
  int code = 0;
  std::string said;  // on stderr
  bool ran = false;
};

// Runs a program with one command that reads MODEL and --data and writes --out and --json.
Result run_command(
    std::vector<std::string> words, const std::function<void()>& body = [] {}) {
  Result r;
  std::string model, data, out, json;
  std::vector<std::string> named;
  double ratio = 0.5;
  Program program("test", "test");
  program.require_command();
  Command c = program.add_command("do", "Does it");
  c.add_option("MODEL", model, "").reads();
  c.add_option("--data", data, "").reads_data();
  c.add_option("--named", named, "").reads();
  c.add_option("--out", out, "").writes();
  c.add_option("--json", json, "").writes();
  c.add_option("--ratio", ratio, "").range(0.0, 1.0);
  c.callback([&] {
    r.ran = true;
    body();
  });
  words.insert(words.begin(), "do");
  const test::Outcome outcome = test::run_program(program, words);
  r.code = outcome.code;
  r.said = outcome.error;
  return r;
}

bool refused(const Result& r, const std::string& part) {
  INFO(r.said);
  const bool one_line = !r.said.empty() && r.said.find('\n') == r.said.size() - 1;
  CHECK(one_line);
  CHECK_FALSE(r.ran);
  return r.code == 2 && r.said.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("command line: an output must not be an input") {
  const test::TemporaryFolder folder;
  const std::string model = (folder / "m.safetensors").string();
  const std::string other = (folder / "o.safetensors").string();
  write_atomically(model, std::string_view("x"));
  write_atomically(folder / "set/classes.json", std::string_view("x"));
  CHECK(run_command({model, "--out", other}).ran);
  CHECK(refused(run_command({model, "--out", model}), "m.safetensors"));
  CHECK(refused(run_command({model, "--json", (folder / "./m.safetensors").string()}),
                "m.safetensors"));
  CHECK(refused(run_command({model, "--out", other, "--json", other}), "written twice"));
  CHECK(refused(run_command({model, "--data", (folder / "set").string(), "--json",
                             (folder / "set/classes.json").string()}),
                "classes.json"));
}

TEST_CASE("command line: NAME=FILE counts as the file") {
  const test::TemporaryFolder folder;
  const std::string model = (folder / "m.safetensors").string();
  write_atomically(model, std::string_view("x"));
  std::vector<std::string> models;
  std::string json;
  bool ran = false;
  Program program("test", "test");
  Command c = program.add_command("do", "Does it");
  c.add_option("NAME=MODEL", models, "").reads();
  c.add_option("--json", json, "").writes();
  c.callback([&] { ran = true; });
  std::vector<std::string> words{"test", "do", "a=" + model, "--json", model};
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  CHECK(program.run(static_cast<int>(argv.size()), argv.data()) == 2);
  CHECK_FALSE(ran);
}

TEST_CASE("command line: empty names and malformed numbers are refused") {
  CHECK(refused(run_command({"m", "--out", ""}), "--out"));
  for (const char* ratio : {"nan", "inf", "-inf", "x", "2"})
    CHECK(refused(run_command({"m", "--ratio", ratio}), "--ratio"));
  CHECK(run_command({"m", "--ratio", "0.25"}).ran);
}

TEST_CASE("command line: every failure is one line without messages of other libraries") {
  Result r = run_command({"m"}, [] { fail("m: a\nb"); });
  CHECK(r.code == 2);
  CHECK(r.said == "test: m: a\\nb\n");
  r = run_command({"m"}, [] { (void)std::filesystem::file_size("/nowhere/file"); });
  CHECK(r.code == 2);
  CHECK(r.said == "test: /nowhere/file: No such file or directory\n");
  r = run_command({"m"}, [] { throw std::bad_alloc(); });
  CHECK(r.said == "test: out of memory\n");
  r = run_command({"m"}, [] { throw std::runtime_error("odd"); });
  CHECK(r.code == 2);
  CHECK(r.said == "test: odd\n");
}

TEST_CASE("command line: a full standard output is an error") {
  std::fflush(stdout);
  const int before = ::dup(STDOUT_FILENO);
  const int full = ::open("/dev/full", O_WRONLY);
  REQUIRE(full >= 0);
  ::dup2(full, STDOUT_FILENO);
  const Result r = run_command({"m"}, [] { std::fputs("a line\n", stdout); });
  std::clearerr(stdout);
  ::dup2(before, STDOUT_FILENO);
  ::close(before);
  ::close(full);
  CHECK(r.code == 2);
  CHECK(r.said == "test: standard output: cannot be written\n");
}
