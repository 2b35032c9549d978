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

ConfigReader::ConfigReader(Json json, std::string where, std::string prefix)
    : json_(std::move(json)), where_(std::move(where)), prefix_(std::move(prefix)) {
  check(
      json_.is_object(), "{}: {} must be a JSON object", where_,
      prefix_.empty() ? "the config" : fmt::format("'{}'", prefix_.substr(0, prefix_.size() - 1)));
}

void ConfigReader::choice(const std::string& key, std::string& value,
                          const std::vector<std::string>& allowed) {
  get(key, value);
  if (std::ranges::find(allowed, value) != allowed.end()) return;
  std::string list;
  for (const auto& a : allowed) list += (list.empty() ? "" : ", ") + a;
  fail("{}: '{}{}' is '{}', must be one of {}", where_, prefix_, key, value, list);
}

ConfigReader ConfigReader::child(const std::string& key) {
  known_.push_back(key);
  return ConfigReader(json_.contains(key) ? json_.at(key) : Json::object(), where_,
                      prefix_ + key + ".");
}

void ConfigReader::finish() const {
  for (const auto& [key, value] : json_.items())
    if (std::ranges::find(known_, key) == known_.end())
      fail("{}: unknown key '{}{}'; nearest is '{}{}'", where_, prefix_, key, prefix_,
           nearest_name(key, known_));
}

void apply_override(Json& json, const std::string& assignment) {
  const size_t eq = assignment.find('=');
  check(eq != std::string::npos && eq > 0, "--set {}: must be key.key=value", assignment);
  check(is_utf8(assignment), "--set {}: is not UTF-8", assignment);
  Json* at = &json;
  std::string key;
  for (size_t begin = 0; begin <= eq;) {
    const size_t end = std::min(assignment.find('.', begin), eq);
    key = assignment.substr(begin, end - begin);
    check(!key.empty(), "--set {}: has an empty key", assignment);
    check(at->is_object() || at->is_null(), "--set {}: '{}' is inside a value", assignment, key);
    at = &(*at)[key];
    begin = end + 1;
  }
  *at = parse_json_or_string(assignment.substr(eq + 1), "--set " + assignment.substr(0, eq));
}

}  // namespace sextant
