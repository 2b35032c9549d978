// SPDX-License-Identifier: Apache-2.0
// Text from outside: names in files, paths, what others wrote.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sextant {

bool is_utf8(std::string_view text);

// For one line of a message: control characters and bytes that are not UTF-8 as \n, \t or \x1b.
std::string printable(std::string_view text);
// The same of the first 200 bytes, with ... where more follow: for names from files.
std::string excerpt(std::string_view text);

// For HTML and XML, also within quotes: & < > " ' as entities.
std::string escaped_markup(std::string_view text);

// "1 class", "3 classes"; without `many`, with an s.
std::string counted(int64_t n, std::string_view one, std::string_view many = "");

// A to Z as a to z; everything else stays.
std::string lower_ascii(std::string_view text);

}  // namespace sextant
