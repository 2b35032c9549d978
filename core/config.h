// SPDX-License-Identifier: Apache-2.0
// Strict reading of JSON configs: every key is read by name, and any other key is an error that
// names the nearest valid one.
//
//   ConfigReader r(json, "bccd.json");
//   r.get("epochs", epochs);            // keeps the default when absent
//   ConfigReader s = r.child("solver");
//   s.require("lr0", lr0);
//   s.get("schedule", shape);           // an enum, by its names (core/enum_names.h)
//   s.finish(); r.finish();
//
// The last line throws "bccd.json: unknown key 'epoch'; nearest is 'epochs'".
//
// A config that is also written has its keys in one function for both: core/config_fields.h.
#pragma once

#include <concepts>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/enum_names.h"
#include "core/error.h"
#include "core/json.h"

namespace sextant {

// Parses a file, see parse_json(). Throws Error naming it.
Json load_json(const std::filesystem::path& path);

// The member of `names` with the smallest edit distance to `name`; empty when `names` is empty.
std::string nearest_name(std::string_view name, const std::vector<std::string>& names);

class ConfigReader {
 public:
  // `where` starts each message: the file's name. Paths in the config are relative to `folder`.
  ConfigReader(Json json, std::string where, std::string prefix = "", std::string folder = "");

  // Optional: leaves `value` unchanged when the key is absent. Throws unless it is exactly a T, see
  // read_value().
  template <class T>
  requires(!NamedEnum<T>) void get(const std::string& key, T& value) {
    known_.push_back(key);
    if (json_.contains(key) && !read_value(json_.at(key), value)) fail_type<T>(key);
  }
  // An enum by its name; with `allowed` only those values.
  template <NamedEnum E>
  void get(const std::string& key, E& value, std::initializer_list<E> allowed = {}) {
    std::string text;
    get(key, text);
    if (!has(key)) return;
    check_name(key, text, enum_names(E{}).what, names_of<E>(allowed));
    value = from_name<E>(text);
  }
  template <NamedEnum E>
  void get(const std::string& key, std::vector<E>& values) {
    std::vector<std::string> texts;
    get(key, texts);
    if (!has(key)) return;
    values.clear();
    for (const std::string& text : texts) {
      check_name(key, text, enum_names(E{}).what, names_of<E>());
      values.push_back(from_name<E>(text));
    }
  }
  // A string out of `names`; `what` is the noun for the message.
  void name(const std::string& key, std::string& value, std::string_view what,
            const std::vector<std::string>& names);
  template <class T>
  void require(const std::string& key, T& value) {
    if (!has(key)) fail_key(key, "is missing");
    get(key, value);
  }
  // A number in [low, high].
  template <class T>
  void number(const std::string& key, T& value, double low, double high) {
    known_.push_back(key);
    if (!has(key)) return;
    const bool read = read_value(json_.at(key), value);
    if (!read && !json_.at(key).is_number()) fail_type<T>(key);
    if (!read || !(static_cast<double>(value) >= low && static_cast<double>(value) <= high))
      fail_key(key, fmt::format("is {}, must be {}in [{}, {}]", short_json(json_.at(key)),
                                read ? "" : "a whole number ", low, high));
  }
  // A file or folder, relative to the config's; "" stays "".
  void path(const std::string& key, std::string& value);
  bool has(const std::string& key) const { return json_.contains(key); }
  // An object under `key`; empty when absent.
  ConfigReader child(const std::string& key);
  const Json& json() const { return json_; }
  const std::string& where() const { return where_; }
  // Throws Error: "<file>: '<key>' <what>".
  [[noreturn]] void fail_key(const std::string& key, const std::string& what) const;
  // Throws when the object has a key that was never read.
  void finish() const;

 private:
  // The value under `key` is not a T.
  template <class T>
  [[noreturn]] void fail_type(const std::string& key) const {
    const std::string text = short_json(json_.at(key));
    if (std::integral<T> && json_.at(key).is_number())
      fail_key(key,
               fmt::format("is {}, must be a whole number that {} bits hold", text, 8 * sizeof(T)));
    fail_key(key, "has the wrong type: " + text);
  }
  void check_name(const std::string& key, const std::string& text, std::string_view what,
                  const std::vector<std::string>& names) const;

  Json json_;
  std::string where_;
  std::string prefix_;
  std::string folder_;
  std::vector<std::string> known_;
};

// Sets json["a"]["b"] from "a.b=v"; v is JSON, or a string when it does not parse as JSON. Throws
// Error, starting with the assignment, for another form, and for one that is not UTF-8: no config
// could hold it.
void apply_override(Json& json, const std::string& assignment);

// The first key, dotted, in which two configs differ; nothing when they are equal.
std::optional<std::string> first_difference(const Json& a, const Json& b);

}  // namespace sextant
