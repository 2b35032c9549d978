// SPDX-License-Identifier: Apache-2.0
// Enums and the names that files, options and messages use for their values: one table per enum.
//
//   enum class Metric { kSqnr, kMse, kMap };
//   constexpr auto enum_names(Metric) {
//     return make_enum_names<Metric>(
//         "metric", {{Metric::kSqnr, "sqnr"}, {Metric::kMse, "mse"}, {Metric::kMap, "map"}});
//   }
//
//   name_of(Metric::kMse);          // "mse"
//   from_name<Metric>("x");         // throws Error: unknown metric 'x'; use sqnr, mse or map
//
// Config keys (core/config.h) and options (apps/cli/command_line.h) take such an enum as it is.
//
// The table stands beside the enum, in its namespace, where argument-dependent lookup finds it.
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace sextant {

template <class E, size_t N>
struct EnumNames {
  std::string_view what;  // the noun for messages
  std::array<std::pair<E, std::string_view>, N> rows;
};

template <class E, size_t N>
constexpr EnumNames<E, N> make_enum_names(std::string_view what,
                                          const std::pair<E, std::string_view> (&rows)[N]) {
  return {what, std::to_array(rows)};
}

// An enum with a table.
template <class E>
concept NamedEnum = requires {
  enum_names(E{}).rows;
};

// "" for a value that is not in the table.
template <NamedEnum E>
constexpr std::string_view name_of(E value) {
  for (const auto& [v, name] : enum_names(E{}).rows)
    if (v == value) return name;
  return "";
}

// In the order of the table; with `allowed` only the names of those.
template <NamedEnum E>
std::vector<std::string> names_of(std::initializer_list<E> allowed = {}) {
  std::vector<std::string> names;
  for (const auto& [value, name] : enum_names(E{}).rows)
    if (allowed.size() == 0 || std::ranges::find(allowed, value) != allowed.end())
      names.emplace_back(name);
  return names;
}

// "a", "a or b", "a, b or c".
std::string one_of_list(const std::vector<std::string>& names);

// The message for a name outside `names`: "unknown metric 'x'; use sqnr, mse or map".
std::string unknown_name(std::string_view what, std::string_view name,
                         const std::vector<std::string>& names);

// Throws Error, listing the valid names, for an unknown one or one outside `allowed`.
template <NamedEnum E>
E from_name(std::string_view name, std::initializer_list<E> allowed = {}) {
  for (const auto& [value, n] : enum_names(E{}).rows)
    if (n == name && (allowed.size() == 0 || std::ranges::find(allowed, value) != allowed.end()))
      return value;
  fail("{}", unknown_name(enum_names(E{}).what, name, names_of<E>(allowed)));
}

}  // namespace sextant
