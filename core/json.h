// SPDX-License-Identifier: Apache-2.0
// The JSON type. Members keep the order they were written in.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

// Instantiated once, in core/json.cpp: in each file that uses JSON it would take a seventh of the
// compile time.
extern template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace sextant {

using Json = nlohmann::ordered_json;

// How deep arrays and objects may be nested. Whoever walks a parsed value may do so by recursion.
inline constexpr size_t kMaxJsonDepth = 64;

// The one way from text to JSON; comments are allowed. Throws Error that starts with `where`, with
// line and column where they are known: for what is not JSON or not UTF-8, is nested deeper than
// kMaxJsonDepth, has a key twice in one object, or a number that no double holds.
Json parse_json(std::string_view text, const std::string& where);
// The same, but text that is not JSON becomes a string.
Json parse_json_or_string(std::string_view text, const std::string& where);

// What a file or message gets: `indent` as nlohmann's dump(). Bytes that are not UTF-8 are replaced.
std::string json_text(const Json& json, int indent = -1);
// For messages: at most about 100 characters.
std::string short_json(const Json& json);

// Reads a value as exactly this type; false, with `value` as it was, where it is of another: true
// is not a number, 3.7 is not an integer (3.0 is), 2^32 is not an int, 1e300 is not a float.
bool read_value(const Json& json, bool& value);
bool read_value(const Json& json, int& value);
bool read_value(const Json& json, int64_t& value);
bool read_value(const Json& json, uint64_t& value);
bool read_value(const Json& json, float& value);
bool read_value(const Json& json, double& value);
bool read_value(const Json& json, std::string& value);
bool read_value(const Json& json, Json& value);
template <class T>
bool read_value(const Json& json, std::vector<T>& value) {
  if (!json.is_array()) return false;
  std::vector<T> read;
  for (const Json& entry : json) {
    T one{};
    if (!read_value(entry, one)) return false;
    read.push_back(std::move(one));
  }
  value = std::move(read);
  return true;
}

}  // namespace sextant
