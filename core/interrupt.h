// SPDX-License-Identifier: Apache-2.0
// SIGINT and SIGTERM. Where nothing has to be put in order the program ends at once, with one line
// on stderr and exit code 128 + signal. Within an InterruptScope the signal waits until the work asks
// for it; a second signal ends the program all the same.
//
//   catch_interrupts("sextant");      // main()
//   const InterruptScope scope;       // from here on a signal waits
//   for (...) { ...; check_interrupt(); }
#pragma once

#include <exception>
#include <string>

namespace sextant {

// Not an Error: nothing is wrong, and nothing that skips a broken file may skip this.
class Interrupted : public std::exception {
 public:
  // `what` is the one line for the user; empty: only that the program was interrupted.
  explicit Interrupted(int signal, std::string what = "");
  int signal() const { return signal_; }
  int exit_code() const { return 128 + signal_; }
  const char* what() const noexcept override { return what_.c_str(); }

 private:
  int signal_;
  std::string what_;
};

// Installs the handlers. `program` starts the line.
void catch_interrupts(const std::string& program);

// May be nested. When the outermost one ends in good order with a signal waiting, the program ends.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

 private:
  int exceptions_;
};

// The signal that waits; 0: none.
int waiting_interrupt();
// Throws Interrupted when a signal waits. Progress::update() calls it, so long work need not.
void check_interrupt();

}  // namespace sextant
