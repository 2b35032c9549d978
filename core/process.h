// SPDX-License-Identifier: Apache-2.0
// Another program at the end of a pipe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sextant {

// Whether the program is on the path.
bool has_program(const std::string& name);

class Process {
 public:
  enum class Pipe { kReadFrom, kWriteTo };  // its standard output; its standard input

  // Starts argv[0], looked up on the path, without a shell. Its other standard stream is empty, what
  // it says on stderr is kept. Throws Error where it cannot be started.
  Process(const std::vector<std::string>& argv, Pipe pipe);
  // Ends the program if it still runs.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Fills `bytes`; returns how many there were, fewer only at the end.
  size_t read(std::span<uint8_t> bytes);
  // False when the program no longer reads.
  bool write(std::span<const uint8_t> bytes);
  // Closes the pipe and waits for the end; the exit code, 128 + signal when one ended it.
  int finish();
  // The last line of what it said on stderr, after finish().
  const std::string& last_words() const { return last_words_; }

 private:
  pid_t pid_ = -1;
  int pipe_ = -1;
  int stderr_ = -1;
  std::string last_words_;
};

}  // namespace sextant
