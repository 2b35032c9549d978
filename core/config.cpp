// SPDX-License-Identifier: Apache-2.0
#include "core/config.h"

#include <algorithm>
#include <numeric>

#include "core/file.h"
#include "core/text.h"

namespace sextant {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t up = row[j + 1];
      row[j + 1] = std::min({up + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1)});
      diagonal = up;
    }
  }
  return row.back();
}

}  // namespace

Json load_json(const std::filesystem::path& path) {
  return parse_json(read_text(path), path.string());
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& names) {
  if (names.empty()) return {};
  return *std::ranges::min_element(names, {},
                                   [&](const std::string& n) { return edit_distance(name, n); });
}

ConfigReader::ConfigReader(Json json, std::string where, std::string prefix, std::string folder)
    : json_(std::move(json)),
      where_(std::move(where)),
      prefix_(std::move(prefix)),
      folder_(std::move(folder)) {
  check(
      json_.is_object(), "{}: {} must be a JSON object", where_,
      prefix_.empty() ? "the config" : fmt::format("'{}'", prefix_.substr(0, prefix_.size() - 1)));
}

void ConfigReader::name(const std::string& key, std::string& value, std::string_view what,
                        const std::vector<std::string>& names) {
  get(key, value);
  if (has(key)) check_name(key, value, what, names);
}

void ConfigReader::path(const std::string& key, std::string& value) {
  get(key, value);
  if (has(key) && !value.empty() && std::filesystem::path(value).is_relative())
    value = (std::filesystem::path(folder_) / value).lexically_normal().string();
}

void ConfigReader::check_name(const std::string& key, const std::string& text,
                              std::string_view what, const std::vector<std::string>& names) const {
  if (std::ranges::find(names, text) == names.end())
    fail("{}: '{}{}': {}", where_, prefix_, key, unknown_name(what, text, names));
}

void ConfigReader::fail_key(const std::string& key, const std::string& what) const {
  fail("{}: '{}{}' {}", where_, prefix_, key, what);
}

ConfigReader ConfigReader::child(const std::string& key) {
  known_.push_back(key);
  return ConfigReader(has(key) ? json_.at(key) : Json::object(), where_, prefix_ + key + ".",
                      folder_);
}

void ConfigReader::finish() const {
  for (const auto& [key, value] : json_.items())
    if (std::ranges::find(known_, key) == known_.end())
      fail("{}: unknown key '{}{}'; nearest is '{}{}'", where_, prefix_, key, prefix_,
           nearest_name(key, known_));
}

void apply_override(Json& json, const std::string& assignment) {
  const size_t eq = assignment.find('=');
  check(eq != std::string::npos && eq > 0, "{}: must be key=value, or key.key=value", assignment);
  check(is_utf8(assignment), "{}: is not UTF-8", assignment);
  Json* at = &json;
  std::string key;
  for (size_t begin = 0; begin <= eq;) {
    const size_t end = std::min(assignment.find('.', begin), eq);
    key = assignment.substr(begin, end - begin);
    check(!key.empty(), "{}: has an empty key", assignment);
    check(at->is_object() || at->is_null(), "{}: '{}' is inside a value", assignment, key);
    at = &(*at)[key];
    begin = end + 1;
  }
  *at = parse_json_or_string(assignment.substr(eq + 1), "--set " + assignment.substr(0, eq));
}

std::optional<std::string> first_difference(const Json& a, const Json& b) {
  if (!a.is_object() || !b.is_object()) {
    if (a == b) return std::nullopt;
    return "";
  }
  for (const auto& [key, value] : a.items()) {
    if (!b.contains(key)) return key;
    if (const auto inner = first_difference(value, b.at(key)))
      return inner->empty() ? key : key + "." + *inner;
  }
  for (const auto& [key, value] : b.items())
    if (!a.contains(key)) return key;
  return std::nullopt;
}

}  // namespace sextant
