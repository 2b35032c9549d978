// SPDX-License-Identifier: Apache-2.0
// Progress of long work: a bar with an ETA on a terminal, an occasional plain line in a log.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace sextant {

class Progress {
 public:
  // Prints to stderr, of several processes (core/communicator.h) the first. `label` leads the line:
  // "epoch 3/60". total 0: not known, so without an ETA.
  Progress(std::string label, int64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // Throws Interrupted when a signal waits. `note` follows the bar, for example the current losses.
  void update(int64_t done, const std::string& note = "");
  // Removes the bar (terminal) or does nothing (log).
  void finish();

 private:
  std::string label_;
  int64_t total_;
  bool shown_, terminal_;
  bool open_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
};

// One line on stderr about something that was met on the way, without tearing a bar apart.
void print_notice(const std::string& text);
// From now on `sink`, on whatever thread, takes what print_notice() would print; empty: none.
void set_notice_sink(std::function<void(const std::string& text)> sink);

// "1h02m", "3m07s", "12s".
std::string format_duration(double seconds);
// Seconds of "90s", "30m", "1h30m"; also of a plain number. Throws Error for anything else and for 0.
double parse_duration(const std::string& text);

}  // namespace sextant
