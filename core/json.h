// The JSON type. Members keep the order they were written in.
#pragma once

#include <nlohmann/json.hpp>

// Instantiated once, in core/json.cpp: in each file that uses JSON it would take a seventh of the
// compile time.
extern template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace sextant {

using Json = nlohmann::ordered_json;

}  // namespace sextant
