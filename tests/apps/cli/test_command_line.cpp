// SPDX-License-Identifier: Apache-2.0
// Options, their mistakes, and what --help shows.
#include <sstream>

#include "apps/cli/run_options.h"
#include "apps/cli/run_program.h"
#include "apps/commands/commands.h"
#include "core/file.h"
#include "support/support.h"

namespace {

using namespace sextant;
using namespace sextant::apps;
using test::contains;
using test::Outcome;

enum class Size { kSmall, kLarge };
constexpr auto enum_names(Size) {
  return make_enum_names<Size>("size", {{Size::kSmall, "small"}, {Size::kLarge, "large"}});
}

struct Sample {
  Size size = Size::kLarge;
  std::optional<Size> other;
  std::vector<Size> sizes;
  Size packed = Size::kLarge;
  int count = 3;
  bool ran = false;
};

Outcome run_sample(const std::vector<std::string>& words, Sample& s) {
  Program app("Tests options", "program");
  app.add_option("--size NAME", s.size, "how large");
  app.add_option("--other NAME", s.other, "another size", {Size::kSmall});
  app.add_option("--sizes NAMES", s.sizes, "several");
  app.add_flag("--packed[=SIZE]", s.packed, Size::kSmall, "packed");
  app.add_option("--count N", s.count, "how many").range(1, 9).show_default();
  app.examples({"program --size small"});
  app.callback([&] { s.ran = true; });
  return test::run_program(app, words);
}

Outcome run_sextant(const std::vector<std::string>& words) {
  Program app("Sextant", "sextant");
  add_commands(app);
  app.require_command();
  return test::run_program(app, words);
}

}  // namespace

TEST_CASE("an option accepts an enum by its names") {
  Sample s;
  CHECK(run_sample({"--size", "small", "--other", "small", "--sizes", "large,small", "--packed"}, s)
            .code == 0);
  CHECK(s.ran);
  CHECK(s.size == Size::kSmall);
  CHECK(s.other == Size::kSmall);
  CHECK(s.sizes == std::vector{Size::kLarge, Size::kSmall});
  CHECK(s.packed == Size::kSmall);
  Sample none;
  CHECK(run_sample(std::vector<std::string>{}, none).code == 0);
  CHECK((none.size == Size::kLarge && !none.other && none.packed == Size::kLarge));
  CHECK(run_sample({"--packed=large"}, none).code == 0);
}

TEST_CASE("a mistake in an option is one line that names it, and exit code 2") {
  const auto error = [](const std::vector<std::string>& words) {
    Sample s;
    const Outcome o = run_sample(words, s);
    CHECK(o.code == 2);
    CHECK_FALSE(s.ran);
    return o.error;
  };
  CHECK(error({"--size", "huge"}) == "program: --size: unknown size 'huge'; use small or large\n");
  CHECK(error({"--other", "large"}) == "program: --other: unknown size 'large'; use small\n");
  CHECK(error({"--sizes", "small,x"}) ==
        "program: --sizes: unknown size 'x'; use small or large\n");
  CHECK(error({"--packed=x"}) == "program: --packed: unknown size 'x'; use small or large\n");
  CHECK(error({"--count", "12"}) == "program: --count is 12, must be in [1, 9]\n");
  CHECK(error({"--count", "x"}) == "program: --count is x, must be in [1, 9]\n");
}

TEST_CASE("the help of an option: its value, its names, its default") {
  Sample s;
  const std::string help = run_sample({"--help"}, s).out;
  CAPTURE(help);
  CHECK(
      contains(help, "  --size NAME                 how large: small or large (default: large)\n"));
  CHECK(contains(help, "  --other NAME                another size: small\n"));
  CHECK(contains(help, "  --packed[=SIZE]             packed\n"));
  CHECK(contains(help, "  --count N                   how many (default: 3)\n"));
  CHECK(contains(help, "Examples:\n  program --size small\n"));
}

TEST_CASE("malformed overrides are named with their option") {
  const test::TemporaryFolder folder;
  write_atomically(folder / "c.json", std::string_view("{}"));
  RunOptions o;
  o.config = (folder / "c.json").string();
  o.overrides = {"a.b=1", "c=text"};
  CHECK(o.json().dump() == R"({"a":{"b":1},"c":"text"})");
  o.overrides = {"novalue"};
  CHECK(test::error_of([&] { o.json(); }) == "--set novalue: must be key=value, or key.key=value");
}

TEST_CASE("every command has readable help with examples") {
  const std::string all = run_sextant({"--help"}).out;
  std::istringstream lines(all.substr(all.find("Commands:\n")));
  std::string line, name;
  std::getline(lines, line);
  int commands = 0;
  while (std::getline(lines, line) && std::istringstream(line) >> name) {
    if (line.starts_with("   ")) continue;  // the rest of a long description
    CAPTURE(name);
    ++commands;
    const Outcome o = run_sextant({name, "--help"});
    CAPTURE(o.out);
    CHECK(o.code == 0);
    CHECK(contains(o.out, "Examples:\n  sextant " + name + " "));
    for (const char* raw : {"TEXT", "REQUIRED", ":{", " in [", "INT", "FLOAT", "Needs:"})
      CHECK_FALSE(contains(o.out, raw));
    std::istringstream rows(o.out);
    for (std::string row; std::getline(rows, row);)
      if (!contains(row, "sextant")) CHECK(row.size() <= 100);
  }
  CHECK(commands >= 17);
}

TEST_CASE("commands: an old name, a wrong one, and none") {
  CHECK(run_sextant({}).error == "sextant: no command given (see --help)\n");
  CHECK(run_sextant({"spread", "--help"}).code == 0);
  CHECK(run_sextant({"quantise", "x"}).error ==
        "sextant: unknown command 'quantise'; nearest is 'quantize' (see --help)\n");
  CHECK(run_sextant({"verify", "m", "--data", "d", "--precision", "fp32"}).error ==
        "sextant: --precision: unknown precision 'fp32'; use int8 or integer\n");
}
