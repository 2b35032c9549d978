// SPDX-License-Identifier: Apache-2.0
// A hash of 64 bits, the same on every machine: to notice that something changed, not to keep out
// someone who means harm.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>

#include "core/rng.h"

namespace sextant {

class Hash64 {
 public:
  // Eight bytes at a time, the last filled up with zeros; their number counts too.
  Hash64& add(const void* bytes, int64_t count) {
    const auto* from = static_cast<const unsigned char*>(bytes);
    add(count);
    for (int64_t i = 0; i < count; i += 8) {
      int64_t word = 0;
      std::memcpy(&word, from + i, static_cast<size_t>(std::min<int64_t>(8, count - i)));
      add(word);
    }
    return *this;
  }
  Hash64& add(std::string_view text) { return add(text.data(), std::ssize(text)); }
  Hash64& add(int64_t number) {
    state_ = splitmix64(state_ ^ static_cast<uint64_t>(number));
    return *this;
  }
  uint64_t value() const { return state_; }
  // 16 hexadecimal digits.
  std::string text() const {
    std::string digits(16, '0');
    for (size_t i = 0; i < 16; ++i) digits[i] = "0123456789abcdef"[state_ >> (60 - 4 * i) & 15];
    return digits;
  }

 private:
  uint64_t state_ = 0;
};

}  // namespace sextant
