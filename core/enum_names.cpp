// SPDX-License-Identifier: Apache-2.0
#include "core/enum_names.h"

namespace sextant {

std::string one_of_list(const std::vector<std::string>& names) {
  std::string list;
  for (size_t i = 0; i < names.size(); ++i)
    list += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + names[i];
  return list;
}

std::string unknown_name(std::string_view what, std::string_view name,
                         const std::vector<std::string>& names) {
  return fmt::format("unknown {} '{}'; use {}", what, name, one_of_list(names));
}

}  // namespace sextant
