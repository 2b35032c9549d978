// Strict reading of JSON configs: every key is read by name, and any other key is an error that
// names the nearest valid one.
//
//   ConfigReader r(json, "bccd.json");
//   r.get("epochs", epochs);            // keeps the default when absent
//   ConfigReader s = r.child("solver");
//   s.require("lr0", lr0);
//   s.finish(); r.finish();
//
// The last line throws "bccd.json: unknown key 'epoch'; nearest is 'epochs'".
#pragma once

#include <concepts>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json.h"

namespace sextant {

// Parses a file, see parse_json(). Throws Error naming it.
Json load_json(const std::filesystem::path& path);

// The member of `names` with the smallest edit distance to `name`; empty when `names` is empty.
std::string nearest_name(std::string_view name, const std::vector<std::string>& names);

class ConfigReader {
 public:
  // `where` starts each message: the file's name.
  ConfigReader(Json json, std::string where, std::string prefix = "");

  // Optional: leaves `value` unchanged when the key is absent. Throws unless it is exactly a T, see
  // read_value().
  template <class T>
  void get(const std::string& key, T& value) {
    known_.push_back(key);
    if (json_.contains(key) && !read_value(json_.at(key), value)) fail_type<T>(key);
  }
  template <class T>
  void require(const std::string& key, T& value) {
    check(has(key), "{}: '{}{}' is missing", where_, prefix_, key);
    get(key, value);
  }
  // One of the `allowed` strings; throws Error listing them otherwise.
  void choice(const std::string& key, std::string& value, const std::vector<std::string>& allowed);
  // A number in [low, high].
  template <class T>
  void number(const std::string& key, T& value, double low, double high) {
    known_.push_back(key);
    const bool read = !json_.contains(key) || read_value(json_.at(key), value);
    if (!read && !json_.at(key).is_number()) fail_type<T>(key);
    check(read && static_cast<double>(value) >= low && static_cast<double>(value) <= high,
          "{}: '{}{}' is {}, must be {}in [{}, {}]", where_, prefix_, key,
          json_.contains(key) ? short_json(json_.at(key)) : fmt::format("{}", value),
          read ? "" : "a whole number ", low, high);
  }
  bool has(const std::string& key) const { return json_.contains(key); }
  // An object under `key`; empty when absent.
  ConfigReader child(const std::string& key);
  const Json& json() const { return json_; }
  const std::string& where() const { return where_; }
  // Throws when the object has a key that was never read.
  void finish() const;

 private:
  // The value under `key` is not a T.
  template <class T>
  [[noreturn]] void fail_type(const std::string& key) const {
    const Json& value = json_.at(key);
    if (std::integral<T> && value.is_number())
      fail("{}: '{}{}' is {}, must be a whole number that {} bits hold", where_, prefix_, key,
           short_json(value), 8 * sizeof(T));
    fail("{}: '{}{}' has the wrong type: {}", where_, prefix_, key, short_json(value));
  }

  Json json_;
  std::string where_;
  std::string prefix_;
  std::vector<std::string> known_;
};

// Sets json["a"]["b"] from "a.b=v"; v is JSON, or a string when it does not parse as JSON. Throws
// Error naming the assignment, also when it is not UTF-8: no config could hold it.
void apply_override(Json& json, const std::string& assignment);

}  // namespace sextant
