// SPDX-License-Identifier: Apache-2.0
// A command line's run inside the test.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "apps/cli/command_line.h"
#include "core/file.h"
#include "support/support.h"

namespace sextant::test {

struct Outcome {
  int code = 0;
  std::string out, error;
};

// With std::cout and stderr caught; `words` without the program's name.
inline Outcome run_program(apps::Program& program, std::vector<std::string> words) {
  words.insert(words.begin(), "program");
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  const TemporaryFolder folder;
  std::ostringstream out;
  std::streambuf* const shown = std::cout.rdbuf(out.rdbuf());
  std::fflush(stderr);
  const int saved = ::dup(STDERR_FILENO);
  const int file = ::open((folder / "error").c_str(), O_CREAT | O_WRONLY, 0600);
  ::dup2(file, STDERR_FILENO);
  Outcome outcome;
  outcome.code = program.run(static_cast<int>(argv.size()), argv.data());
  std::fflush(stderr);
  ::dup2(saved, STDERR_FILENO);
  ::close(saved);
  ::close(file);
  std::cout.rdbuf(shown);
  outcome.out = out.str();
  outcome.error = read_text(folder / "error");
  return outcome;
}

}  // namespace sextant::test
