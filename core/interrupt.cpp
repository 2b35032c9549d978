// SPDX-License-Identifier: Apache-2.0
#include "core/interrupt.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace sextant {
namespace {

// All that the handler reads; it may run on any thread, at any moment.
std::atomic<int> scopes{0};
std::atomic<int> waiting{0};
std::array<char, 64> program_name{};
static_assert(std::atomic<int>::is_always_lock_free);

const char* text_of(int signal) {
  return signal == SIGINT ? "interrupted (SIGINT)" : "interrupted (SIGTERM)";
}

void write_text(const char* text) {
  // Nothing can be done where stderr is not there.
  [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, text, std::strlen(text));
}

[[noreturn]] void end_program(int signal) {
  if (::isatty(STDERR_FILENO) != 0) write_text("\r\x1b[K");  // a progress bar
  write_text(program_name.data());
  write_text(": ");
  write_text(text_of(signal));
  write_text("\n");
  ::_exit(128 + signal);
}

extern "C" void handle_signal(int signal) {
  const int before = errno;
  if (scopes.load() == 0 || waiting.exchange(signal) != 0) end_program(signal);
  errno = before;
}

}  // namespace

Interrupted::Interrupted(int signal, std::string what)
    : signal_(signal), what_(what.empty() ? text_of(signal) : std::move(what)) {}

void catch_interrupts(const std::string& program) {
  const size_t length = std::min(program.size(), program_name.size() - 1);
  std::copy_n(program.begin(), length, program_name.begin());
  struct sigaction action {};
  action.sa_handler = handle_signal;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM}) {
    struct sigaction current {};
    // A program that a script starts in the background, or under nohup, ignores them.
    if (::sigaction(signal, nullptr, &current) == 0 && current.sa_handler != SIG_IGN)
      ::sigaction(signal, &action, nullptr);
  }
}

InterruptScope::InterruptScope() : exceptions_(std::uncaught_exceptions()) { ++scopes; }
InterruptScope::~InterruptScope() {
  if (--scopes > 0 || waiting.load() == 0) return;
  if (std::uncaught_exceptions() == exceptions_) end_program(waiting.load());
  waiting = 0;  // whoever catches the exception ends the program
}

int waiting_interrupt() { return waiting.load(); }

void check_interrupt() {
  if (const int signal = waiting.load(); signal != 0) throw Interrupted(signal);
}

}  // namespace sextant
