// SPDX-License-Identifier: Apache-2.0
// Files of tensors that must be the same.
#pragma once

#include <cstring>
#include <filesystem>

#include "support/support.h"

namespace sextant::test {

// Names, types, shapes and bytes, in the order of the files.
inline void check_same_tensors(const SafeTensors& a, const SafeTensors& b) {
  REQUIRE(a.tensors.size() == b.tensors.size());
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const auto& [name, x] = a.tensors[i];
    const auto& [name_of_b, y] = b.tensors[i];
    INFO(name);
    REQUIRE(name == name_of_b);
    REQUIRE(x.dtype() == y.dtype());
    REQUIRE(x.shape() == y.shape());
    CHECK(std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.bytes())) == 0);
  }
}

inline void check_same_tensors(const std::filesystem::path& a, const std::filesystem::path& b) {
  check_same_tensors(load_safetensors(a), load_safetensors(b));
}

}  // namespace sextant::test
