// SPDX-License-Identifier: Apache-2.0
#include "core/config_fields.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace sextant {

void ConfigFields::name(const std::string& key, std::string& value, std::string_view what,
                        const std::vector<std::string>& names) {
  if (reading())
    reader_->name(key, value, what, names);
  else
    (*json_)[key] = value;
}

void ConfigFields::sides(const std::string& key, int& height, int& width, double low, double high) {
  if (!reading()) {
    if (width == 0)
      (*json_)[key] = height;
    else
      (*json_)[key] = {height, width};
    return;
  }
  if (!given(key) || !reader_->json().at(key).is_array()) {
    width = given(key) ? 0 : width;
    return reader_->number(key, height, low, high);
  }
  std::vector<int64_t> both;
  reader_->get(key, both);
  const auto within = [&](int64_t side) {
    return static_cast<double>(side) >= low && static_cast<double>(side) <= high;
  };
  check(both.size() == 2 && std::ranges::all_of(both, within), key,
        fmt::format("is [{}], must be a height and a width in [{}, {}]", fmt::join(both, ", "), low,
                    high));
  height = static_cast<int>(both[0]);
  width = both[1] == both[0] ? 0 : static_cast<int>(both[1]);
}

void ConfigFields::path(const std::string& key, std::string& value) {
  if (reading())
    reader_->path(key, value);
  else
    (*json_)[key] =
        value.empty() ? value : std::filesystem::absolute(value).lexically_normal().string();
}

void ConfigFields::verbatim(const std::string& key, Json& object) {
  if (reading())
    object = reader_->child(key).json();
  else
    (*json_)[key] = object;
}

}  // namespace sextant
