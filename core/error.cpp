// SPDX-License-Identifier: Apache-2.0
#include "core/error.h"

namespace sextant {

void throw_error(fmt::string_view format, fmt::format_args args) {
  throw Error(fmt::vformat(format, args));
}

}  // namespace sextant
