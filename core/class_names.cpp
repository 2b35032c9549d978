// SPDX-License-Identifier: Apache-2.0
#include "core/class_names.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/text.h"

namespace sextant {
namespace {

// "'a', 'b', 'c' and 3 more" of those that `names` has and `others` has not; "" when there are none.
std::string only_in(const std::vector<std::string>& names, const std::vector<std::string>& others) {
  constexpr size_t kShown = 3;
  const std::set<std::string_view> known(others.begin(), others.end());
  std::string text;
  size_t found = 0;
  for (const std::string& name : names) {
    if (known.contains(name) || ++found > kShown) continue;
    text += fmt::format("{}'{}'", text.empty() ? "" : ", ", name);
  }
  if (found > kShown) text += fmt::format(" and {} more", found - kShown);
  return text;
}

}  // namespace

void check_class_names(const std::vector<std::string>& names, const std::string& where) {
  check(names.size() <= kMaxClasses, "{}: {} classes, more than {}", where, names.size(),
        kMaxClasses);
  std::set<std::string_view> seen;
  for (const std::string& name : names) {
    check(name.size() <= kMaxClassName, "{}: the class name '{}...' has {} bytes, more than {}",
          where, printable(name.substr(0, 32)), name.size(), kMaxClassName);
    check(is_utf8(name), "{}: the class name '{}' is not UTF-8", where, printable(name));
    check(seen.insert(name).second, "{}: duplicate class name '{}'", where, name);
  }
}

bool are_numbers(const std::vector<std::string>& names) {
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] != std::to_string(i)) return false;
  return true;
}

std::string class_difference(const std::vector<std::string>& names,
                             const std::vector<std::string>& others) {
  if (are_numbers(names) || are_numbers(others)) {
    if (names.size() == others.size() || names.empty() || others.empty()) return {};
    return fmt::format("it has {} classes instead of {}", names.size(), others.size());
  }
  const std::string more = only_in(names, others), fewer = only_in(others, names);
  return (more.empty() ? "" : "it has " + more) + (more.empty() || fewer.empty() ? "" : ", ") +
         (fewer.empty() ? "" : "it lacks " + fewer);
}

std::vector<int64_t> match_classes(const std::vector<std::string>& from,
                                   const std::string& from_where,
                                   const std::vector<std::string>& to,
                                   const std::string& to_where) {
  const std::string difference = class_difference(from, to);
  check(difference.empty(), "{}: other classes than {}: {}", from_where, to_where, difference);
  std::vector<int64_t> numbers;
  if (are_numbers(from) || are_numbers(to)) {
    for (size_t i = 0; i < from.size(); ++i) numbers.push_back(static_cast<int64_t>(i));
    return numbers;
  }
  std::map<std::string_view, int64_t> number_of;
  for (size_t i = 0; i < to.size(); ++i) number_of.emplace(to[i], static_cast<int64_t>(i));
  for (const std::string& name : from) numbers.push_back(number_of.at(name));
  return numbers;
}

}  // namespace sextant
