// SPDX-License-Identifier: Apache-2.0
// Reads little-endian numbers and runs of bytes from untrusted memory: every read is
// bounds-checked.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace sextant {

class ByteReader {
 public:
  // `what` starts each message and must outlive the reader, as `bytes` must.
  ByteReader(std::span<const uint8_t> bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  // Throws Error when fewer than n bytes are left.
  std::span<const uint8_t> take(uint64_t n) {
    check(n <= left(), "{}: ends at byte {}, {} more are needed", what_, bytes_.size(), n - left());
    const auto out = bytes_.subspan(position_, static_cast<size_t>(n));
    position_ += static_cast<size_t>(n);
    return out;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view text(uint64_t n) {
    const auto raw = take(n);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }

 private:
  std::span<const uint8_t> bytes_;
  std::string_view what_;
  size_t position_ = 0;
};

}  // namespace sextant
