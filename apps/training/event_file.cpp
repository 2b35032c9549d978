// SPDX-License-Identifier: Apache-2.0
#include "apps/training/event_file.h"

#include <array>
#include <bit>

namespace sextant::apps {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = (c & 1) != 0 ? c >> 1 ^ 0x82f63b78u : c >> 1;
    table[i] = c;
  }
  return table;
}
constexpr auto kCrcTable = make_crc_table();

template <class T>
std::string little_endian(T v) {
  std::string out;
  for (size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>(v >> (8 * i) & 0xff);
  return out;
}

std::string varint(uint64_t v) {
  std::string out;
  for (; v >= 0x80; v >>= 7) out += static_cast<char>((v & 0x7f) | 0x80);
  return out + static_cast<char>(v);
}

// A field's key: its number and how its value is written.
enum Wire : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
std::string key(uint64_t field, Wire wire) { return varint(field << 3 | wire); }
std::string bytes_field(uint64_t field, const std::string& bytes) {
  return key(field, kBytes) + varint(bytes.size()) + bytes;
}
std::string double_field(uint64_t field, double v) {
  return key(field, kFixed64) + little_endian(std::bit_cast<uint64_t>(v));
}
std::string float_field(uint64_t field, float v) {
  return key(field, kFixed32) + little_endian(std::bit_cast<uint32_t>(v));
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t c = ~0u;
  for (const char b : bytes) c = kCrcTable[(c ^ static_cast<uint8_t>(b)) & 0xff] ^ c >> 8;
  return ~c;
}

uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

std::string tf_record(std::string_view bytes) {
  const std::string length = little_endian(static_cast<uint64_t>(bytes.size()));
  return length + little_endian(masked_crc32c(length)) + std::string(bytes) +
         little_endian(masked_crc32c(bytes));
}

std::string version_event(double wall_time) {
  return tf_record(double_field(1, wall_time) + bytes_field(3, "brain.Event:2"));
}

std::string scalar_event(double wall_time, int64_t step,
                         const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars)
    summary += bytes_field(1, bytes_field(1, tag) + float_field(2, static_cast<float>(value)));
  return tf_record(double_field(1, wall_time) + key(2, kVarint) +
                   varint(static_cast<uint64_t>(step)) + bytes_field(5, summary));
}

}  // namespace sextant::apps
