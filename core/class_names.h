// SPDX-License-Identifier: Apache-2.0
// The classes of a model or data set: names, whose order gives the numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sextant {

inline constexpr size_t kMaxClasses = 65536;
inline constexpr size_t kMaxClassName = 1024;  // bytes

// What every reader of class names asks: no more and no longer than the limits above, UTF-8, none
// twice. Throws Error that starts with `where`.
void check_class_names(const std::vector<std::string>& names, const std::string& where);

// A list that says nothing: empty, or "0", "1", "2", ... as an import writes where no names are
// known. Such classes go by their numbers.
bool are_numbers(const std::vector<std::string>& names);

// What the one list has and the other has not: "it has 'a', it lacks 'b' and 'c'"; "" where both
// hold the same names, or either says nothing and they are as many.
std::string class_difference(const std::vector<std::string>& names,
                             const std::vector<std::string>& others);

// The number in `to` of each class of `from`. By name; by number where either list says nothing.
// Throws Error naming what the one has and the other has not, unless they hold the same names; the
// message calls the lists `from_where` and `to_where`.
std::vector<int64_t> match_classes(const std::vector<std::string>& from,
                                   const std::string& from_where,
                                   const std::vector<std::string>& to, const std::string& to_where);

}  // namespace sextant
