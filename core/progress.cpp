// SPDX-License-Identifier: Apache-2.0
#include "core/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "core/communicator.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/text.h"

namespace sextant {
namespace {
constexpr double kTerminalInterval = 0.1;
constexpr double kLogInterval = 30.0;
std::function<void(const std::string& text)> notice_sink;
}  // namespace

std::string format_duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s % 3600 / 60);
  if (s >= 60) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}s", s);
}

double parse_duration(const std::string& text) {
  double seconds = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  bool right = !text.empty();
  for (double unit = 0, last = 1e9; right && at != end; last = unit) {
    double value = 0;
    const auto [rest, error] = std::from_chars(at, end, value);
    const char letter = rest == end ? 's' : *rest;
    unit = letter == 'h' ? 3600 : letter == 'm' ? 60 : letter == 's' ? 1 : 0;
    right = error == std::errc() && std::isfinite(value) && value >= 0 && unit > 0 && unit < last;
    seconds += value * unit;
    at = rest == end ? end : rest + 1;
  }
  check(right && seconds > 0, "'{}' is not a duration; write it as in 90s, 30m or 1h30m",
        printable(text));
  return seconds;
}

void set_notice_sink(std::function<void(const std::string& text)> sink) {
  notice_sink = std::move(sink);
}

void print_notice(const std::string& text) {
  if (notice_sink) return notice_sink(text);
  // The bar is drawn anew below the line.
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    fmt::print(stderr, "{}{}\n", ::isatty(STDERR_FILENO) != 0 ? "\r\x1b[K" : "", printable(line));
  std::fflush(stderr);
}

Progress::Progress(std::string label, int64_t total)
    : label_(std::move(label)),
      total_(total),
      shown_(is_first_process()),
      terminal_(::isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() { finish(); }

void Progress::update(int64_t done, const std::string& note) {
  check_interrupt();
  if (!shown_) return;
  const auto now = std::chrono::steady_clock::now();
  const double since = std::chrono::duration<double>(now - last_).count();
  if (since < (terminal_ ? kTerminalInterval : kLogInterval) && !(terminal_ && done == total_))
    return;
  last_ = now;
  if (total_ <= 0) {
    fmt::print(stderr, "{}{} {} {}{}", terminal_ ? "\r\x1b[K" : "", label_, done, note,
               terminal_ ? "" : "\n");
    std::fflush(stderr);
    open_ = terminal_;
    return;
  }
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double eta =
      done > 0 ? elapsed / static_cast<double>(done) * static_cast<double>(total_ - done) : 0.0;
  if (terminal_) {
    constexpr int kWidth = 24;
    const auto filled = std::min<size_t>(kWidth, static_cast<size_t>(kWidth * done / total_));
    fmt::print(stderr, "\r\x1b[K{} [{}{}] {}/{} eta {} {}", label_, std::string(filled, '#'),
               std::string(kWidth - filled, '.'), done, total_, format_duration(eta), note);
    open_ = true;
  } else {
    fmt::print(stderr, "{} {}/{} eta {} {}\n", label_, done, total_, format_duration(eta), note);
  }
  std::fflush(stderr);
}

void Progress::finish() {
  if (!open_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  open_ = false;
}

}  // namespace sextant
