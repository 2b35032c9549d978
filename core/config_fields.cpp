// SPDX-License-Identifier: Apache-2.0
#include "core/config_fields.h"

namespace sextant {

void ConfigFields::name(const std::string& key, std::string& value, std::string_view what,
                        const std::vector<std::string>& names) {
  if (reading())
    reader_->name(key, value, what, names);
  else
    (*json_)[key] = value;
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
