// SPDX-License-Identifier: Apache-2.0
// Errors. One exception type, thrown where the fact is known.
//
// A message says what was expected, what was found, and where:
//   conv2d: weight [64,3,3,32] has 32 input channels, input [8,80,80,48] has 48
// Every mistake a user can make (config, image, label, checkpoint, command line) ends as one such
// line and exit code 2; see apps/main.cpp.
#pragma once

// fmt 9 assumes that nvcc has no constexpr, but still calls these functions from constexpr ones.
#if defined(__NVCC__) && !defined(FMT_USE_CONSTEXPR)
#define FMT_USE_CONSTEXPR 1
#endif
#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace sextant {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

// Called by check() and fail(), so that each of their many calls compiles to little code.
[[noreturn]] void throw_error(fmt::string_view format, fmt::format_args args);

// Throws Error with a message formatted as by fmt::format.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw_error(format, fmt::make_format_args(args...));
}

// Throws unless `condition` holds. The message is formatted only on failure.
template <class... Args>
void check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]]
    throw_error(format, fmt::make_format_args(args...));
}

}  // namespace sextant
